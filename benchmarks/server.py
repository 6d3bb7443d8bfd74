"""The servers under test: ``python -m benchmarks.server ours asyncio``.

``ours`` is this package's ``@websocket_pubsub``, ``live`` its live endpoint; ``bare`` is
what one writes by hand with aiohttp and redis-py: a set of sockets, a task, a ``send_str``
for each. ``ours-auth`` lets only those in who have a token. ``audience-10`` is ``ours``
with documents of which ten groups of users see each its own.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .processes import SETTINGS, allow_many_files, answer_lines, new_loop, say

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

CHANNEL = "news"
TOKEN = "benchmark"
BACKLOG = 4096
"""Connections that may wait to be accepted, where the kernel allows that many."""
_users: list[AbstractBaseUser] = []


def cached_user(token: str) -> AbstractBaseUser | None:
    """A ``tokenauth_method`` that needs no database."""
    if token != TOKEN:
        return None
    if not _users:
        from django.contrib.auth.models import User

        _users.append(User(pk=1, username="benchmark"))
    return _users[0]


def _set_up() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = SETTINGS
    import django

    django.setup()


def live_application() -> web.Application:
    """The live endpoint, and nothing written for it."""
    _set_up()
    from redis_pubsub.contrib.websockets import setup

    return setup(handlers=[])


def our_application(*, authenticate: bool) -> web.Application:
    """One handler that forwards one channel."""
    _set_up()
    from redis_pubsub.contrib.websockets import setup, websocket_pubsub

    async def listen(ws: Any, params: Any, manager: Any, **kwargs: Any) -> None:
        await manager.forward(ws, CHANNEL)
        await ws.send_str("ready")
        while (await ws.receive()).type is not web.WSMsgType.CLOSED:
            pass

    route = websocket_pubsub("/", authenticate=authenticate)(listen)
    return setup(handlers=[route])


def audience_application(keys: int) -> web.Application:
    """`our_application`, where each socket is another user, of one of some audiences."""
    _set_up()
    from django.contrib.auth.models import User

    from redis_pubsub.contrib.websockets import setup, websocket_pubsub
    from tests.shop.models import Document

    hooks: Any = Document
    hooks.audience_key = classmethod(lambda cls, user: user.pk % keys)
    hooks.can_view = classmethod(lambda cls, user, instance: True)
    hooks.serialize_for = lambda self, audience: self.notes
    numbers = itertools.count(1)

    async def listen(ws: Any, params: Any, manager: Any, **kwargs: Any) -> None:
        manager.user = User(pk=next(numbers))
        await manager.forward(ws, CHANNEL)
        await ws.send_str("ready")
        while (await ws.receive()).type is not web.WSMsgType.CLOSED:
            pass

    return setup(handlers=[websocket_pubsub("/")(listen)])


def bare_application(redis_url: str) -> web.Application:
    """A set of sockets and a loop of ``send_str``, everything at its default."""
    sockets: set[web.WebSocketResponse] = set()

    async def listen(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        sockets.add(ws)
        try:
            await ws.send_str("ready")
            async for _ in ws:
                pass
        finally:
            sockets.discard(ws)
        return ws

    async def broadcast(pubsub: Any) -> None:
        async for message in pubsub.listen():
            if message["type"] == "message":
                text = message["data"]
                for ws in list(sockets):
                    await ws.send_str(text)

    async def broadcasting(app: web.Application) -> AsyncIterator[None]:
        import redis.asyncio

        client: Any = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
        pubsub: Any = client.pubsub()
        await pubsub.subscribe(CHANNEL)
        task = asyncio.create_task(broadcast(pubsub))
        yield
        task.cancel()
        await asyncio.wait([task])
        await pubsub.aclose()
        await client.aclose()

    app = web.Application()
    app.router.add_get("/", listen)
    app.cleanup_ctx.append(broadcasting)
    return app


def application(kind: str) -> web.Application:
    """The application of a kind of server."""
    if kind == "live":
        return live_application()
    if kind.startswith("audience-"):
        return audience_application(int(kind.removeprefix("audience-")))
    if kind.startswith("ours"):
        return our_application(authenticate=kind == "ours-auth")
    return bare_application(os.environ["REDIS_URL"])


async def serve(kind: str) -> None:
    """Listen on a free port of loopback, and answer commands."""
    app = application(kind)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    say({"port": runner.addresses[0][1]})
    try:
        await answer_lines(lambda command: _answer(app, command))
    finally:
        await runner.cleanup()


async def _answer(app: web.Application, command: dict[str, Any]) -> dict[str, Any]:
    if command["do"] == "collect":
        gc.collect()
        return {}
    if os.environ.get("DJANGO_SETTINGS_MODULE") != SETTINGS:
        return {}
    from redis_pubsub.web.connections import Connections
    from redis_pubsub.web.keys import ENGINE

    engine = app[ENGINE]
    return {
        "counters": engine.metrics.snapshot(),
        "connections": len(engine.part(Connections)),
        "channels": len(engine.hub.channels),
    }


if __name__ == "__main__":
    allow_many_files()
    with asyncio.Runner(loop_factory=new_loop(sys.argv[2])) as _runner:
        _runner.run(serve(sys.argv[1]))
