"""Clients that are no longer there and never said so: what they send and what is sent to
them is lost on the way, and no connection ends."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.web.connections import Connections
from tests.broker.proxy import Proxy

pytestmark = pytest.mark.django_db(transaction=True)

CONNECT = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:1"}}'


@pytest.fixture
def quick(settings, site):
    settings.REDIS_PUBSUB = site | {
        "limits": {"heartbeat_s": 0.4},
        "live": {"anonymous": True},
        "channels": {"room:*": {"subscribe": "anyone"}},
    }


async def test_a_handlers_dead_client_is_noticed(quick, serve, until):
    """W-11: within two heartbeats of nothing the handler ends and its subscription with it;
    a client whose packets arrive is kept, though it has nothing to say."""
    ended = []

    @websocket_pubsub("/news/{name}")
    async def news(ws, params, manager):
        await manager.forward(ws, f"news:{params['name']}", "all")
        ws.send_str("ready")
        try:
            await ws.receive()
        finally:
            ended.append(params["name"])

    served = await serve(news)
    async with Proxy(served.port) as proxy:
        alive = await served.connect("/news/alive")
        dead = await served.http.ws_connect(f"http://127.0.0.1:{proxy.port}/news/dead")
        for ws in (alive, dead):
            assert await ws.receive_str() == "ready"
        # Only who reads answers pings.
        reading = asyncio.create_task(alive.receive())

        proxy.hang()
        await until(lambda: ended == ["dead"], 10)
        await until(lambda: "news:dead" not in served.engine.hub.channels)
        await until(lambda: len(served.engine.part(Connections)) == 1)

        await apublish("all", "still here")
        assert (await reading).json() == "still here"
        await alive.close()
        proxy.heal()


async def test_a_live_client_that_died_is_noticed(quick, serve, until):
    """W-11: no pong, no connection; nothing of it stays."""
    served = await serve()
    async with Proxy(served.port) as proxy:
        dead = await served.http.ws_connect(
            f"http://127.0.0.1:{proxy.port}/connection/websocket"
        )
        await dead.send_str(CONNECT)
        await until(lambda: served.engine.hub.channels.get("room:1"))

        proxy.hang()
        await until(lambda: served.engine.metrics["pongs_missed"] == 1, 10)

        await until(lambda: "room:1" not in served.engine.hub.channels)
        proxy.heal()
