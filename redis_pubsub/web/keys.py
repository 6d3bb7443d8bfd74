"""What the parts of an aiohttp application find in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import web

from ..engine import Engine

if TYPE_CHECKING:
    from .upgrade import Opening


class Pages(Protocol):
    """Django, as an aiohttp handler."""

    def knows(self, path: str) -> bool:
        """Whether the URLconf resolves a path."""

    async def handle_request(self, request: web.Request) -> web.StreamResponse: ...

    async def close(self) -> None: ...


class SocketAddress(NamedTuple):
    """Where sockets are opened that need nothing of aiohttp's; see `entrance`.

    Attributes:
        handler: What the router has for it.
        opening_of: Looks at a handshake.
    """

    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    opening_of: Callable[[Engine, web.BaseRequest], Opening]


ENGINE = web.AppKey("redis_pubsub_engine", Engine)
PAGES: web.AppKey[Pages] = web.AppKey("redis_pubsub_pages")
SOCKETS: web.AppKey[dict[str, SocketAddress]] = web.AppKey("redis_pubsub_sockets")
"""By path."""
QUIET = web.RequestKey("redis_pubsub_quiet", bool)
"""On a request whose success is not worth a line in the access log."""
