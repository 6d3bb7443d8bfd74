"""python-socketio on aiohttp with its asynchronous Redis manager, on uvloop."""

import os
import sys
from urllib.parse import parse_qs

import socketio
import uvloop
from aiohttp import web

manager = socketio.AsyncRedisManager(os.environ["REDIS_URL"])
server = socketio.AsyncServer(
    async_mode="aiohttp",
    client_manager=manager,
    transports=["websocket"],
    http_compression=False,
)


@server.event
async def connect(sid, environ, auth=None):
    query = parse_qs(environ["QUERY_STRING"])
    for channel in query["channels"][0].split(","):
        await server.enter_room(sid, channel)
    await server.emit("ready", to=sid, ignore_queue=True)


app = web.Application()
server.attach(app)
uvloop.install()
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    access_log=None,
    print=None,
    backlog=4096,
)
