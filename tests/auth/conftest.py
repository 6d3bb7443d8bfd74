"""A whole site: sockets, the live endpoint, and the pages that issue tickets."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub import get_application
from redis_pubsub.contrib.websockets import websocket

KEY = "the key of these tests, which is long enough"
CSRF = "c" * 32


@websocket("/whoami", authenticate=True)
async def whoami(ws, params, user):
    await ws.send_json({"user": user.username, "params": list(params)})
    if "wait" in params:
        await ws.receive()


@websocket("/open")
async def opened(ws, params):
    await ws.send_str("in")


@pytest.fixture
def serve_site(serve, settings, site):
    """Serve pages and sockets: ``served = await serve_site(limits={…})``."""
    settings.ROOT_URLCONF = "tests.auth.urls"

    async def start(**values):
        live = {"token_key": KEY, **values.pop("live", {})}
        settings.REDIS_PUBSUB = site | {"live": live, **values}
        app = await asyncio.to_thread(get_application, handlers=[whoami, opened])
        return await serve(app=app)

    return start


@pytest.fixture
async def served(serve_site):
    return await serve_site()


@pytest.fixture
async def token(user):
    """A REST framework token of the user."""
    from rest_framework.authtoken.models import Token

    return (await Token.objects.acreate(user=user)).key


@pytest.fixture
async def browser(user, client):
    """What a logged-in browser sends along, with Django's CSRF token."""
    await sync_to_async(client.force_login)(user)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    cookies["csrftoken"] = CSRF
    return {
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "X-CSRFToken": CSRF,
    }


async def refusal(served, path="/whoami", **headers):
    """Status and text of a handshake that is refused."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    response = await served.http.get(served.url + path, headers={**upgrade, **headers})
    return response.status, await response.text()
