"""A connection's way into a channel on which it does not see everything.

What it missed has to be rendered for it, which takes a moment: it is fed from before that
moment on, and what comes meanwhile waits behind a gate until its reply is written. So there
is no race to win, however fast the channel is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .feeding import Feedline

if TYPE_CHECKING:
    from .connection import Connection


class Gate(Feedline):
    """What the hub feeds of a connection for one channel, closed at first.

    Args:
        connection: Whose.
        line: The way out, and its form.

    Attributes:
        is_lost: Something is missing in what waits.
    """

    __slots__ = ("_held", "_held_bytes", "_is_open", "_limit_bytes", "_out", "is_lost")

    def __init__(self, connection: Connection, line: Feedline) -> None:
        super().__init__(connection, line.framing)
        self._out = line.write
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._limit_bytes = connection.server.limits.send_buffer_bytes
        self._is_open = False
        self.is_lost = False
        self.write = self._pass

    def _pass(self, data: bytes) -> None:
        if self._is_open:
            self._out(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self._limit_bytes:
            self.is_lost = True
            self._held.clear()

    def open(self) -> None:
        """The reply is written; idempotent."""
        held, self._held = self._held, []
        self._is_open = True
        for data in held:
            self._out(data)

    def position_lost(self, channel: str) -> None:
        """Before the reply, the client has no position to lose."""
        if self._is_open:
            super().position_lost(channel)
        else:
            self.is_lost = True
