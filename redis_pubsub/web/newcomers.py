"""Connections that say nothing: closed by one timer for all, not one for each.

aiohttp gives a new connection its keep-alive time for the first request, which is over a
minute; somebody who opens thousands and sends half a header has them all for that long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_S = 1.0


class Newcomer(Protocol):
    """A connection that has just begun."""

    @property
    def is_silent(self) -> bool:
        """Whether it is open, and no whole request has come."""

    def close(self) -> None: ...


class Newcomers:
    """Watches new connections until their first request is there.

    Args:
        deadline_s: How long they may take for its head; noticed within a second more.
        on_late: Called for each that is closed.
    """

    def __init__(self, deadline_s: float, on_late: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._on_late = on_late
        self._waiting: deque[tuple[float, Newcomer]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, newcomer: Newcomer) -> None:
        """Watch one from now on."""
        loop = asyncio.get_running_loop()
        self._waiting.append((loop.time() + self._deadline_s, newcomer))
        if self._timer is None:
            self._timer = loop.call_later(min(TICK_S, self._deadline_s), self._turn)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            _, newcomer = self._waiting.popleft()
            if newcomer.is_silent:
                self._on_late()
                newcomer.close()
        self._timer = None
        if self._waiting:
            self._timer = loop.call_later(min(TICK_S, self._deadline_s), self._turn)
