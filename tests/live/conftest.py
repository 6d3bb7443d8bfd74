"""A served live endpoint, and clients of it."""

from __future__ import annotations

import pytest
import redis
from asgiref.sync import sync_to_async

from redis_pubsub import apublish
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live.server import LiveServer
from redis_pubsub.contrib.websockets.server import make_runner
from redis_pubsub.models import Channel

from .client import Live

KEY = "the key of the live tests, which is long enough"
CHANNELS = {
    "room:*": {
        "subscribe": "anyone",
        "publish": "anyone",
        "history_size": 10,
        "presence": True,
    },
    "lobby:*": {"subscribe": "anyone", "history_size": 0},
    "joins:*": {"subscribe": "anyone", "join_leave": True, "presence": True},
    "members:*": {"subscribe": "authenticated", "publish": "authenticated"},
}


class LiveSite:
    """One process that serves the live endpoint."""

    def __init__(self, served):
        self.served = served
        self.url = served.url
        self.http = served.http
        self.engine = served.engine

    @property
    def server(self):
        return self.engine.part(LiveServer)

    @property
    def connections(self):
        return list(self.server._connections.values())

    async def open(self, **options):
        """A socket that has said nothing."""
        return Live(await self.served.connect("/connection/websocket", **options))

    async def connect(self, user=None, **request):
        """A client that has connected, as a user or as nobody."""
        client = await self.open()
        if user is not None:
            request["token"] = connection_token(user)
        client.result_of_connect = await client.result("connect", **request)
        return client

    async def publish(self, channel, payload, **options):
        return await apublish(channel, payload, strict=True, **options)


@pytest.fixture
def serve_live(serve, settings, site, until):
    """Serve: ``site = await serve_live(procedures…, channels={…}, limits={…})``."""

    async def start(*procedures, live=None, channels=None, **values):
        settings.REDIS_PUBSUB = site | {
            "live": {"anonymous": True, "token_key": KEY, **(live or {})},
            "channels": {**CHANNELS, **(channels or {})},
            **values,
        }
        live = LiveSite(await serve(*procedures, run=make_runner))
        # Once the control channel is heard everything is looked at again: before a test.
        await until(lambda: live.server.changes)
        return live

    return start


@pytest.fixture
async def live(serve_live):
    """The live endpoint as most tests want it: nobody may connect, rooms are open."""
    return await serve_live()


@pytest.fixture
async def chat(user):
    """A channel with a row that the user is subscribed to."""
    channel = await Channel.objects.acreate(name="chat")
    await channel.asubscribe(user)
    return channel


@pytest.fixture
def redis_client(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def session_cookie(user, client):
    """The cookies of a logged-in browser, as a header."""
    await sync_to_async(client.force_login)(user)
    return "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
