"""What one writes by hand with aiohttp and redis-py: sets of sockets, and a ``send_str``
for each of them. On uvloop, without compression."""

import asyncio
import os
import sys
from collections import defaultdict

import redis.asyncio
import uvloop
from aiohttp import web

sockets = defaultdict(set)


async def listen(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    channels = request.query["channels"].split(",")
    for channel in channels:
        if not sockets[channel]:
            await request.app["pubsub"].subscribe(channel)
        sockets[channel].add(ws)
    try:
        await ws.send_str('"ready"')
        async for _ in ws:
            pass
    finally:
        for channel in channels:
            sockets[channel].discard(ws)
    return ws


async def broadcast(pubsub):
    async for message in pubsub.listen():
        if message["type"] == "message":
            text = message["data"]
            for ws in list(sockets[message["channel"]]):
                try:
                    await ws.send_str(text)
                except ConnectionError:
                    pass


async def broadcasting(app):
    client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    app["pubsub"] = client.pubsub()
    await app["pubsub"].subscribe("nothing")
    task = asyncio.create_task(broadcast(app["pubsub"]))
    yield
    task.cancel()


app = web.Application()
app.router.add_get("/", listen)
app.cleanup_ctx.append(broadcasting)
uvloop.install()
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    access_log=None,
    print=None,
    backlog=4096,
)
