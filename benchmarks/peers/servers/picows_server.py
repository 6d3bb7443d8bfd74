"""A bare broadcaster on picows (Cython) and uvloop: the floor of one write per socket."""

import asyncio
import os
import sys
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import picows
import redis.asyncio
import uvloop

transports = defaultdict(set)
pubsub = None


class Listener(picows.WSListener):
    def __init__(self, channels):
        self.channels = channels

    def on_ws_connected(self, transport):
        self.joining = asyncio.create_task(self.join(transport))

    async def join(self, transport):
        for channel in self.channels:
            if not transports[channel]:
                await pubsub.subscribe(channel)
            transports[channel].add(transport)
        transport.send(picows.WSMsgType.TEXT, b'"ready"')

    def on_ws_disconnected(self, transport):
        for channel in self.channels:
            transports[channel].discard(transport)


def listener(request):
    query = parse_qs(urlsplit(request.path.decode()).query)
    return Listener(query["channels"][0].split(","))


async def main():
    global pubsub
    pubsub = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"]).pubsub()
    await pubsub.subscribe("nothing")
    server = await picows.ws_create_server(
        listener, "127.0.0.1", int(sys.argv[1]), backlog=4096
    )
    await server.start_serving()
    text = picows.WSMsgType.TEXT
    async for message in pubsub.listen():
        if message["type"] == "message":
            data = message["data"]
            for transport in transports[message["channel"].decode()]:
                transport.send(text, data)


uvloop.run(main())
