"""What the parts of an aiohttp application find in it."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from ..engine import Engine


class Pages(Protocol):
    """Django, as an aiohttp handler."""

    def knows(self, path: str) -> bool:
        """Whether the URLconf resolves a path."""

    async def handle_request(self, request: web.Request) -> web.StreamResponse: ...

    async def close(self) -> None: ...


ENGINE = web.AppKey("redis_pubsub_engine", Engine)
PAGES: web.AppKey[Pages] = web.AppKey("redis_pubsub_pages")
QUIET = web.RequestKey("redis_pubsub_quiet", bool)
"""On a request whose success is not worth a line in the access log."""
