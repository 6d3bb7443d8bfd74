"""Clients that take nothing of what they are sent: noticed by one look at all of them.

No timer for each socket: every few seconds one pass asks each for what is unsent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .connections import Connection

logger = logging.getLogger("redis_pubsub.websockets")

LOOKS = 2
"""How often each is looked at within the deadline."""


class Behind(NamedTuple):
    """A client that has not taken everything.

    Attributes:
        since: Of ``loop.time()``: it has taken nothing from then on.
        unsent_bytes: What was unsent then.
        taken_bytes: What it had taken then, where the kernel says that.
    """

    since: float
    unsent_bytes: int
    taken_bytes: int


class Stalls:
    """Looks while there is somebody to look at.

    Args:
        connections: All that are open.
        deadline_s: How long a client may take nothing; noticed within half of it more.
        on_stall: Told of each that did.
    """

    def __init__(
        self,
        connections: Collection[Connection],
        deadline_s: float,
        on_stall: Callable[[Connection], None],
    ) -> None:
        self._connections = connections
        self._deadline_s = deadline_s
        self._on_stall = on_stall
        self._behind: dict[Connection, Behind] = {}
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Look from now on; until there is nobody."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._deadline_s / LOOKS, self._turn)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        self._timer = None
        try:
            self.look(asyncio.get_running_loop().time())
        except Exception:
            logger.exception("looking for stalled clients failed")
        if self._connections:
            self.arm()

    def look(self, now: float) -> None:
        """Ask each for what is unsent, and tell of those who have taken nothing since.

        Args:
            now: Of ``loop.time()``.
        """
        behind: dict[Connection, Behind] = {}
        stalled = []
        for connection in self._connections:
            outlet = connection.outlet
            unsent = 0 if outlet is None else outlet.unsent_bytes()
            if outlet is None or not unsent:
                continue
            is_now = Behind(now, unsent, outlet.taken_bytes())
            was = self._behind.get(connection)
            if (
                was is None
                or is_now.unsent_bytes < was.unsent_bytes
                or is_now.taken_bytes != was.taken_bytes
            ):
                behind[connection] = is_now
            elif now - was.since >= self._deadline_s:
                stalled.append(connection)
            else:
                behind[connection] = was
        self._behind = behind
        for connection in stalled:
            self._on_stall(connection)
