"""Handlers of the test site."""

import os

from redis_pubsub.contrib.websockets import websocket, websocket_pubsub


@websocket("/")
async def echo(ws, params, **kwargs):
    """Shares its path with the home page."""
    async for message in ws:
        ws.send_str(message.data)


@websocket_pubsub("/hear/{channel}")
async def hear(ws, params, manager):
    """Says which process it is in, then everything of a channel."""
    await manager.forward(ws, params["channel"])
    ws.send_str(str(os.getpid()))
    await ws.receive()


handlerconf = ["echo", "hear"]
