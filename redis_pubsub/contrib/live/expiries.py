"""Permissions that end: the connection's own, and those of single channels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TTL_MOST_S = 2**31 - 1
"""What clients can count to."""
CONNECTION = ""
"""In place of a channel: the connection itself."""


def ttl_s(expires_at: float) -> int:
    """How long a permission still lasts, as clients are told: at least a second."""
    return int(min(max(1, expires_at - time.time()), TTL_MOST_S))


class Expiries:
    """The ends of one connection's permissions.

    Args:
        grace_s: How long after its end a permission may still be renewed.
        on_end: Called with the channel when that is over.
    """

    __slots__ = ("_grace_s", "_on_end", "_timers")

    def __init__(self, grace_s: float, on_end: Callable[[str], None]) -> None:
        self._grace_s = grace_s
        self._on_end = on_end
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def set(self, channel: str, at: float) -> None:
        """Let a permission end at a Unix time instead of when it would have.

        Args:
            channel: Which one; `CONNECTION` for the connection's own.
            at: 0 for never.
        """
        timer = self._timers.pop(channel, None)
        if timer is not None:
            timer.cancel()
        if at:
            delay_s = max(0.0, at - time.time()) + self._grace_s
            loop = asyncio.get_running_loop()
            self._timers[channel] = loop.call_later(delay_s, self._end, channel)

    def __contains__(self, channel: object) -> bool:
        """Whether a permission is to end."""
        return channel in self._timers

    def clear(self) -> None:
        """No permission ends any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _end(self, channel: str) -> None:
        self._timers.pop(channel, None)
        self._on_end(channel)
