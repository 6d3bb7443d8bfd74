"""Presence in a handler, as docs/topics/presence.rst shows it."""

from __future__ import annotations

import asyncio
import json

from redis_pubsub import apresence
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.engine import current_engine


@websocket_pubsub("/room/")
async def room(ws, params, manager, **kwargs):
    there = current_engine().presence
    info = json.dumps({"name": params["name"]}).encode()
    try:
        await there.enter("room", ws.id, "", info)
        await ws.send_str("entered")
        async for _ in ws:
            pass
    finally:
        there.exit("room", ws.id)


async def names():
    return sorted(client.info["name"] for client in await apresence("room"))


async def test_open_sockets_are_listed(serve):
    """From enter to the end of the connection, whichever side ends it."""
    served = await serve(room)
    ada = await served.connect("/room/?name=ada")
    bob = await served.connect("/room/?name=bob")
    assert [await ada.receive_str(), await bob.receive_str()] == ["entered", "entered"]
    before = await names()

    await ada.close()
    async with asyncio.timeout(5):
        while await names() != ["bob"]:
            await asyncio.sleep(0.005)

    assert before == ["ada", "bob"]
    await bob.close()
