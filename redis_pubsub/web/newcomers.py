"""Connections that say nothing: closed by one timer for all, not one for each.

aiohttp gives a new connection its keep-alive time for the first request, which is over a
minute; somebody who opens thousands and sends half a header has them all for that long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

TICK_S = 1.0


class Newcomers:
    """Watches a server's new connections until their first request is there.

    Args:
        deadline_s: How long they may take for its head; noticed within a second more.
        on_late: Called for each that is closed.
    """

    def __init__(self, deadline_s: float, on_late: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._on_late = on_late
        self._waiting: deque[tuple[float, web.RequestHandler]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, server: web.Server) -> None:
        """Be told of each connection of a server."""
        known: Any = server.connection_made

        def connection_made(
            handler: web.RequestHandler, transport: asyncio.Transport
        ) -> None:
            known(handler, transport)
            self._add(handler)

        server.connection_made = connection_made  # type: ignore[method-assign]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _add(self, handler: web.RequestHandler) -> None:
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + self._deadline_s, handler))
        if self._timer is None:
            self._timer = loop.call_later(min(TICK_S, self._deadline_s), self._turn)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            _, handler = self._waiting.popleft()
            # aiohttp has no public word for "a request has come" (3.14.5).
            if not handler._request_count and handler.transport is not None:
                self._on_late()
                handler.force_close()
        self._timer = None
        if self._waiting:
            self._timer = loop.call_later(min(TICK_S, self._deadline_s), self._turn)
