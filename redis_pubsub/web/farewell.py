"""What is still read of a client that was told to go: nothing but its answer."""

from __future__ import annotations

FAREWELL_BYTES = 1_048_576
"""What it may still send meanwhile, so that it sees why it has to go, and not a reset."""
CLOSE = 0x88


class TooMuch(Exception):
    """It goes on sending; drop the connection."""


class Farewell:
    """Looks for a close frame, and skips all others unread.

    Args:
        skip: Bytes that are still to come of the frame that has begun.
    """

    __slots__ = ("_held", "_left", "_skip")

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._held = b""
        self._left = FAREWELL_BYTES

    def close_in(self, data: bytes) -> bytes:
        """The client's close frame, and what is behind it, once it is whole; until then
        nothing.

        Raises:
            TooMuch: It has sent more than `FAREWELL_BYTES`.
        """
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch
        data, self._held = self._held + data, b""
        at, end = self._skip, len(data)
        while at + 1 < end:
            size, width = data[at + 1] & 0x7F, 0
            if data[at] == CLOSE:
                if at + 6 + size > end:
                    break
                return data[at:]
            if size > 125:
                width = 2 if size == 126 else 8
                if at + 2 + width > end:
                    break
                size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
            at += 6 + width + size
        if at < end:
            self._held, self._skip = data[at:], 0
        else:
            self._skip = at - end
        return b""
