"""Looking at everything now and then, a part at a time: for what nobody was told of."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable

from .metrics import Metrics

logger = logging.getLogger("redis_pubsub.engine")

PARTS = 10
"""Each user's turn is one of so many parts of a round."""

Visit = Callable[[Callable[[str], bool]], None]


class Rounds:
    """Lets every user, by primary key as text, have his turn once in a period.

    Args:
        period_s: How long a round takes; 0 for none at all.
        metrics: Where visits that failed are counted.

    Attributes:
        visits: Called each turn with a function that tells whether it is a user's turn.
    """

    def __init__(self, period_s: float, metrics: Metrics) -> None:
        self.period_s = period_s
        self.visits: list[Visit] = []
        self._metrics = metrics
        self._part = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self.period_s:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.period_s / PARTS, self._turn)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self.start()
        self._part = part = (self._part + 1) % PARTS
        for visit in self.visits:
            try:
                visit(lambda user: zlib.crc32(user.encode()) % PARTS == part)
            except Exception:
                self._metrics.count("refresh_errors")
                logger.exception("looking again failed")
