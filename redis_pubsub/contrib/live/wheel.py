"""Pings and their answers for all connections of a process: one timer, not one each.

The wheel has a number of slots and turns once in a ping interval. A connection sits in
one slot: when that comes up it is pinged, and some slots later its answer must be there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("redis_pubsub.live")

SLOTS = 50
ANSWER_SLOTS = 20
"""A client has two fifths of the interval for its answer: 10 of 25 seconds."""


class Pinged(Protocol):
    """Something that is pinged."""

    def ping(self) -> None: ...

    def check_pong(self) -> None: ...


class Wheel:
    """Turns while somebody sits in it.

    Args:
        interval_s: Seconds between two pings of one connection.
    """

    def __init__(self, interval_s: float) -> None:
        self._tick_s = interval_s / SLOTS
        self._slots: list[set[Pinged]] = [set() for _ in range(SLOTS)]
        self._now = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, pinged: Pinged) -> int:
        """Take a seat; the first ping comes after half an interval to a whole one, so that
        those who connected together are not pinged together.

        Returns:
            The slot, for `discard`.
        """
        ahead = SLOTS // 2 + int(random.random() * (SLOTS // 2))
        slot = (self._now + ahead) % SLOTS
        self._slots[slot].add(pinged)
        self._count += 1
        if self._timer is None:
            self._arm()
        return slot

    def discard(self, pinged: Pinged, slot: int) -> None:
        """Give the seat back."""
        if pinged in self._slots[slot]:
            self._slots[slot].discard(pinged)
            self._count -= 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._turn)

    def _turn(self) -> None:
        self._now = (self._now + 1) % SLOTS
        for pinged in list(self._slots[self._now]):
            self._try(pinged.ping)
        for pinged in list(self._slots[self._now - ANSWER_SLOTS]):
            self._try(pinged.check_pong)
        self._timer = None
        if self._count:
            self._arm()

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            logger.exception("a ping failed")
