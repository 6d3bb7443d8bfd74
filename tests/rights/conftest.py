"""Browsers with sessions, and sockets of both kinds that they open."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import WSMsgType
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.test import Client

from redis_pubsub.contrib.live.server import LiveServer
from redis_pubsub.web.connections import Connections
from redis_pubsub.web.rechecks import Rechecks
from tests.live.client import Live

from .handlers import mine

TIMEOUT_S = 15.0
HANDLER, LIVE = "handler", "live"
CHANNELS = {"members:*": {"subscribe": "authenticated"}}


class Browser:
    """Logged in by a session cookie, as Django's own views do it."""

    def __init__(self, user):
        self.client = Client()
        self.client.force_login(user)

    @property
    def key(self):
        return self.client.cookies[django_settings.SESSION_COOKIE_NAME].value

    def headers(self, url):
        name = django_settings.SESSION_COOKIE_NAME
        return {"Cookie": f"{name}={self.key}", "Origin": url}


class Site:
    """One process that serves both kinds."""

    def __init__(self, served):
        self.served = served
        self.engine = served.engine

    @property
    def rechecks(self):
        return self.engine.part(Rechecks)

    @property
    def connections(self):
        return self.engine.part(Connections)

    @property
    def live(self):
        return self.engine.part(LiveServer)

    async def open(self, kind, headers, **connect):
        """A socket that was let in."""
        if kind == HANDLER:
            ws = await self.served.connect("/mine", headers=headers)
            await ws.receive_str()
            return Handler(ws)
        ws = await self.served.connect("/connection/websocket", headers=headers)
        client = Live(ws)
        await client.result("connect", **connect)
        return client

    async def of_session(self, kind, browser):
        return await self.open(kind, browser.headers(self.served.url))

    async def of_ticket(self, kind, ticket):
        return await self.open(kind, {"Authorization": f"Bearer {ticket}"})

    async def of_token(self, kind, token):
        return await self.open(kind, {"Authorization": f"Token {token}"})


class Handler:
    """A client of the handler."""

    def __init__(self, ws):
        self.ws = ws

    async def ended(self):
        return await ended(self.ws)

    async def is_open(self):
        """Whether all that was sent so far left it open."""
        await self.ws.send_str("ping")
        return await self.ws.receive_str() == "pong"


async def ended(ws):
    """The code with which a socket is closed; pings and messages before it are skipped."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            message = await ws.receive()
            if message.type is WSMsgType.CLOSE:
                return message.data
            assert message.type in (WSMsgType.TEXT, WSMsgType.BINARY), message
            if message.data == "{}":
                await ws.send_str("{}")


async def code_of(client):
    """With which code a client of either kind is closed."""
    return await ended(client.ws)


async def stays(client):
    """Whether a client of either kind is served."""
    if isinstance(client, Handler):
        return await client.is_open()
    return await client.silent() is not None


@pytest.fixture
def serve_site(serve, settings, site):
    async def start(**values):
        settings.REDIS_PUBSUB = site | {"channels": CHANNELS, **values}
        served = Site(await serve(mine))
        # Parts hear control messages from the moment they are made.
        assert served.live is not None and served.rechecks is not None
        return served

    return start


@pytest.fixture
async def rights(serve_site):
    """Rounds are off: what happens is because somebody said so."""
    return await serve_site(limits={"recheck_s": 0})


@pytest.fixture
async def log_in():
    return sync_to_async(Browser)


@pytest.fixture
async def token(user):
    """A REST framework token of the user."""
    from rest_framework.authtoken.models import Token

    return (await Token.objects.acreate(user=user)).key
