"""One handler, which forwards the channels its URL names."""

from typing import Any

from aiohttp import web

from redis_pubsub.contrib.websockets import websocket_pubsub


@websocket_pubsub("/listen/")
async def listen(ws: Any, params: Any, manager: Any, **kwargs: Any) -> None:
    """Forward ``?channels=a,b``, say ``ready``, and stay."""
    for channel in params["channels"].split(","):
        await manager.forward(ws, channel)
    await ws.send_str('"ready"')
    while (await ws.receive()).type is not web.WSMsgType.CLOSED:
        pass


handlerconf = ["listen"]
