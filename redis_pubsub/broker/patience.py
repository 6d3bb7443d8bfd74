"""How long Redis is waited for: one timer for all that is asked, as each gets as long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Answer = asyncio.Future[None]


class Patience:
    """Looks whether answers have come in time.

    Args:
        seconds: How long each may take.
        lost: Called with the channel and the answer that did not come.
    """

    def __init__(self, seconds: float, lost: Callable[[str, Answer], None]) -> None:
        self._seconds = seconds
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        # In the order in which they are due.
        self._waiting: deque[tuple[float, str, Answer]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def lend(self, channel: str, answer: Answer) -> None:
        """Wait for an answer from now on."""
        due = self._loop.time() + self._seconds
        self._waiting.append((due, channel, answer))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def close(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting and (self._waiting[0][2].done() or self._waiting[0][0] <= now):
            _, channel, answer = self._waiting.popleft()
            if not answer.done():
                self._lost(channel, answer)
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0][0], self._look)
