"""One client of an event socket, as its handlers and hooks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from aiohttp import web
from multidict import MultiMapping

from ...auth.session import has_sessions, session_key_of
from ...frames import payload_frame
from .emitting import event_payload
from .words import Deny, check_close_code, check_event

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.contrib.sessions.backends.base import SessionBase

    from ..websockets.socket import Closing, HandlerSocket, Sent
    from .socket import EventSocket


class EventConnection:
    """One client of an event socket.

    Attributes:
        endpoint: The `EventSocket`.
        request: The handshake.
        user: Who it is; ``None`` where nobody was asked for.
        params: What the path says, e.g. ``{"name": "kitchen"}``.
        state: The connection's own; what the socket declares, else a namespace.
    """

    def __init__(
        self, endpoint: EventSocket, request: web.Request, user: AbstractBaseUser | None
    ) -> None:
        self.endpoint = endpoint
        self.request = request
        self.user = user
        self.params: Mapping[str, str] = dict(request.match_info)
        self.state: Any = (endpoint.state or SimpleNamespace)()
        self._protocols = endpoint.protocols
        self._headers: dict[str, str] = {}
        self._session: SessionBase | None = None
        self._ws: HandlerSocket | None = None
        # The class style's instance, made of this connection.
        self.handler = None if endpoint.handler is None else endpoint.handler(self)

    @property
    def ws(self) -> HandlerSocket:
        """The socket itself, as handlers of ``@websocket`` have it."""
        if self._ws is None:
            raise RuntimeError("this client is not let in yet: do this in on_open")
        return self._ws

    @property
    def id(self) -> str:
        """Unguessable, unique in the cluster: ``emit(…, client=id)``."""
        return self.ws.id

    @property
    def query(self) -> MultiMapping[str]:
        """What stands behind the question mark."""
        return self.request.query

    @property
    def subprotocol(self) -> str:
        """The one that client and server agreed on; empty for none."""
        return self.ws.ws_protocol or ""

    @property
    def session(self) -> SessionBase:
        """The session of the client's cookie, read at first use: by its ``a…`` names on the
        event loop. An empty one for a client without it.

        Raises:
            RuntimeError: ``django.contrib.sessions`` is not installed.
        """
        if self._session is None:
            self._session = _session_of(self.request)
        return self._session

    # -- before the upgrade ------------------------------------------------------------

    def accept(
        self, subprotocol: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """In ``on_connect``: choose the subprotocol, add headers to the answer.

        Raises:
            RuntimeError: The client is let in already.
        """
        if self._ws is not None:
            raise RuntimeError("accept() belongs into on_connect: this client is let in")
        if subprotocol is not None:
            self._protocols = (subprotocol,)
        self._headers.update(headers or {})

    def deny(self, reason: str = "", code: int = 0) -> NoReturn:
        """In ``on_connect`` and ``on_open``: do not let this client in.

        Raises:
            Deny: Always.
        """
        given = {"reason": reason, "code": code}
        raise Deny(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]

    @property
    def answer(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Subprotocols and headers of the handshake's answer."""
        return self._protocols, self._headers

    def opened(self, ws: HandlerSocket) -> None:
        """It is let in."""
        self._ws = ws

    # -- while it is open --------------------------------------------------------------

    def emit(self, event: str, data: Any = None) -> Sent:
        """Send an event to this client, at once; the result may be awaited until the client
        keeps up. For others use the socket's or the module's ``emit``."""
        return self.ws.send_str(event_payload(check_event(event), data).decode())

    def send(self, data: Any) -> Sent:
        """Send something that is no event: text, bytes, or anything else as JSON."""
        if isinstance(data, str):
            return self.ws.send_str(data)
        if isinstance(data, bytes | bytearray | memoryview):
            return self.ws.send_bytes(data)
        return self.ws.send_str(msgspec.json.encode(data).decode())

    def close(self, code: int = 1000, reason: str = "") -> Closing:
        """Close; starts at once, and what the client has sent and is not yet handled is
        dropped. May be awaited until the connection is closed.

        Raises:
            ValueError: The code is neither 1000 nor one of 3000 to 4999.
        """
        return self.ws.close(code=check_close_code(code), message=reason)

    @property
    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self.ws.is_closing


class Ear:
    """Takes what is emitted to one connection. Until its hooks have let the client in, what
    comes is held, so that who is refused has heard nothing."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "_limit_bytes",
        "_slow",
        "_ws",
        "connection_id",
        "write",
    )

    framing = staticmethod(payload_frame)

    def __init__(
        self, ws: HandlerSocket, limit_bytes: int, on_slow: Callable[[], None]
    ) -> None:
        self.connection_id = ws.id
        self._slow = on_slow
        self._ws = ws
        self._limit_bytes = limit_bytes
        self._held: list[bytes] | None = []
        self._held_bytes = 0
        self.write: Callable[[bytes], None] = self._hold

    def _hold(self, data: bytes) -> None:
        if self._held is None:
            self._ws.write_frames(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self._limit_bytes:
            # Closed: what comes from now on is written to nobody.
            self._held = None
            self._slow()

    def open(self) -> None:
        """Let everything through from now on, what was held first."""
        held, self._held = self._held or [], None
        self.write = self._ws.write_frames
        if held:
            self.write(b"".join(held))

    def position_lost(self, channel: str) -> None:
        """Events are for those who are there: nothing is made up for."""


def _session_of(request: web.Request) -> SessionBase:
    from importlib import import_module

    from django.conf import settings

    if not has_sessions():
        raise RuntimeError('socket.session needs "django.contrib.sessions" installed')
    key = session_key_of(request.cookies.get(settings.SESSION_COOKIE_NAME, ""))
    session: SessionBase = import_module(settings.SESSION_ENGINE).SessionStore(key or None)
    return session
