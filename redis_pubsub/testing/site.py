"""The site's sockets inside a test: real handlers, no network, the test's own database."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections
from django.test import override_settings

from ..conf import SETTING
from ..contrib.events.lifetime import Lifetimes
from ..contrib.websockets.handlers import Route
from ..contrib.websockets.server import socket_application
from ..engine import Engine
from ..publishing import apublish
from ..web.keys import ENGINE
from .capture import send_pending
from .events import EventClient

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ..contrib.events import EventSocketHandler

_HOST = "testserver"


class PubSubSite:
    """A running application of a test, and clients of it.

    Attributes:
        app: The aiohttp application.
        http: An aiohttp client session whose requests reach it.
    """

    def __init__(self, app: web.Application, http: aiohttp.ClientSession) -> None:
        self.app = app
        self.http = http

    @property
    def engine(self) -> Engine:
        """Hub, broker and counters of the application."""
        return self.app[ENGINE]

    async def connect(
        self,
        path: str,
        *,
        user: AbstractBaseUser | None = None,
        token: str | None = None,
        **options: Any,
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a socket: ``send_str``, ``receive_json``, ``close`` … as aiohttp's client.

        Args:
            path: Of the handler, with its query.
            user: Log in as this user, by a session.
            token: Send this token in the ``Authorization`` header.
            options: For ``aiohttp.ClientSession.ws_connect``.

        Raises:
            aiohttp.WSServerHandshakeError: The handshake was refused; has ``status``.
        """
        headers = dict(options.pop("headers", {}))
        headers.setdefault("Origin", f"http://{_HOST}")
        if user is not None:
            key = await sync_to_async(_log_in)(user)
            headers["Cookie"] = f"{settings.SESSION_COOKIE_NAME}={key}"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"http://{_HOST}{path}"
        return await self.http.ws_connect(url, headers=headers, **options)  # type: ignore[no-any-return]

    async def connect_events(
        self, path: str, *, opened: bool = True, **options: Any
    ) -> EventClient:
        """`connect` to an event socket.

        Args:
            path: Of the socket, with its query.
            opened: Return when its open hooks have ended, so that what is emitted from now
                on reaches it. ``False`` where a hook waits for the test.
            options: As for `connect`.
        """
        client = EventClient(await self.connect(path, **options))
        if opened:
            await self.engine.part(Lifetimes).settled.wait()
        return client

    async def publish(self, channel: str, payload: Any, **options: Any) -> None:
        """`redis_pubsub.apublish`, raising where Redis fails; past the outbox, whose rows
        would wait for the commit of the test."""
        options.setdefault("outbox", False)
        await apublish(channel, payload, strict=True, **options)

    async def commit(self) -> None:
        """Send what the test's transaction has published so far; see `send_pending`."""
        await sync_to_async(send_pending)()


@asynccontextmanager
async def pubsub_site(
    *handlers: Route | type[EventSocketHandler], url: str | None = None, **values: Any
) -> AsyncIterator[PubSubSite]:
    """Serve the site's handlers inside an asynchronous test.

    Database work of handlers runs in the test's own thread and connection, so that a
    ``TestCase``'s transaction is seen::

        async with pubsub_site() as site:
            ws = await site.connect("/messages/", user=ada)
            await Message.objects.acreate(body="hello")
            await site.commit()
            assert (await ws.receive_json())[0]["fields"]["body"] == "hello"

    Args:
        handlers: These instead of those of the installed apps.
        url: A broker's; by default one in memory, the test's own.
        values: Further keys of ``REDIS_PUBSUB``.
    """
    setting = {
        **getattr(settings, SETTING, {}),
        "url": url or f"memory://{uuid.uuid4().hex}",
        **values,
    }
    hosts = [*settings.ALLOWED_HOSTS, _HOST]
    in_test_thread = await sync_to_async(_is_in_test_case)()
    directory = await asyncio.to_thread(tempfile.TemporaryDirectory)
    with override_settings(REDIS_PUBSUB=setting, ALLOWED_HOSTS=hosts):
        app = socket_application(list(handlers) or None, in_test_thread=in_test_thread)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        path = str(Path(directory.name) / "site.sock")
        await web.UnixSite(runner, path).start()
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
                yield PubSubSite(app, http)
        finally:
            await runner.cleanup()
            await asyncio.to_thread(directory.cleanup)


def _is_in_test_case() -> bool:
    """Whether a transaction is open that only this thread's connection sees."""
    return any(connection.in_atomic_block for connection in connections.all())


def _log_in(user: AbstractBaseUser) -> str:
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)
