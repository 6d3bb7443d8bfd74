"""For channels whose messages a slow client may miss: skip while it is behind, then say so.

``"latest"``: it gets the newest message as soon as it takes data again; where each audience
sees another, as with ``"drop"``. ``"drop"``: it is told that some are missing. Either way
nothing is kept for it meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..frames import Framing
from ..messages import Message
from ..metrics import Metrics

logger = logging.getLogger("redis_pubsub.hub")

LATEST = "latest"
DROP = "drop"
LOOK_S = 0.05
"""How often those who are behind are looked at."""


class Tap:
    """Between a channel and one client that may miss some of it.

    Args:
        taps: Where it waits while its client is behind.
        framing: Makes the newest message's frame.
        write: The way to the client.
        is_full: Whether the client is behind.
        newest: For ``"latest"``: the channel's newest message, or ``None`` while messages
            are being written. ``None`` for ``"drop"``.
        on_gap: Told when messages were skipped and the client takes data again.
        connection_id: Whose messages to itself are kept from it.
    """

    __slots__ = (
        "_connection_id",
        "_framing",
        "_is_full",
        "_newest",
        "_on_gap",
        "_taps",
        "_write",
        "is_behind",
    )

    def __init__(
        self,
        taps: Taps,
        *,
        framing: Framing,
        write: Callable[[bytes], None],
        is_full: Callable[[], bool],
        newest: Callable[[], Message | None] | None,
        on_gap: Callable[[], None],
        connection_id: str,
    ) -> None:
        self._connection_id = connection_id
        self._taps = taps
        self._framing = framing
        self._write = write
        self._is_full = is_full
        self._newest = newest
        self._on_gap = on_gap
        self.is_behind = False

    def write(self, data: bytes) -> None:
        """One or more frames, or nothing while the client is behind."""
        if self.is_behind:
            return
        if self._is_full():
            self.is_behind = True
            self._taps.wait(self)
        else:
            self._write(data)

    def look(self) -> bool:
        """Catch up if the client takes data again; whether it did."""
        if self._is_full():
            return False
        if self._newest is None:
            self.is_behind = False
            self._on_gap()
            return True
        message = self._newest()
        if message is None:
            # A flush is under way, which passes this client by: the next look is soon.
            return False
        self.is_behind = False
        if message.is_judged:
            # Of several views the newest may be nobody's: it comes back, and is told.
            self._on_gap()
            return True
        if not message.header.exclude or message.header.exclude != self._connection_id:
            self._write(self._framing(message))
        return True


class Taps:
    """Those of one hub whose clients are behind."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._behind: set[Tap] = set()
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, tap: Tap) -> None:
        """Look at a tap until its client has caught up."""
        self._metrics.count("slow_skips")
        self._behind.add(tap)
        if self._timer is None:
            self._arm()

    def forget(self, tap: Tap) -> None:
        """Its client hears the channel no more."""
        self._behind.discard(tap)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._behind.clear()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for tap in list(self._behind):
            try:
                if tap.look():
                    self._behind.discard(tap)
            except Exception:
                self._metrics.count("listener_errors")
                self._behind.discard(tap)
                logger.exception("a slow client could not be caught up")
        if self._behind:
            self._arm()
