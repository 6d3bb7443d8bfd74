"""What a client may send on a WebSocket, looked at frame by frame before aiohttp's parser.

The parser is strict about nearly everything, and has no opinion on how much is too much:
it takes any number of pings, messages and empty fragments, frames without a mask, and
close codes that nobody may send. So each piece of what arrives passes a `Guard` first,
which reads the heads of the frames and nothing else. That costs a microsecond for a
message (docs/topics/security.rst).
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import WebSocketError, WSCloseCode

from .farewell import Farewell, TooMuch
from .pace import FRAME_BYTES, Meter, Pace

_MASKED = 0x80
_MESSAGES = (0x01, 0x02, 0x81, 0x82)
_IS_CONTROL = 0x08
_CLOSE = 0x88
_DONE = (False, b"")
_FAILED = (True, b"")


def _is_forbidden(mask_and_code: bytes) -> bool:
    """Whether a close has a code that only this side may use, or none at all; aiohttp's
    parser knows the others."""
    high = mask_and_code[0] ^ mask_and_code[4]
    code = high << 8 | mask_and_code[1] ^ mask_and_code[5]
    return code in (1005, 1006, 1015) or code >= 5000


class Parser(Protocol):
    """aiohttp's ``WebSocketReader``."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]: ...

    def feed_eof(self) -> None: ...


class Guarded(Protocol):
    """Whose bytes pass."""

    def flooded(self) -> None:
        """The client sends more than it may; close."""

    def broke_protocol(self, error: WebSocketError) -> None:
        """Nothing more is to be read; close with the error's code."""

    def abort(self) -> None:
        """Drop the connection."""


class Guard:
    """Stands where aiohttp expects its parser.

    Args:
        parser: What gets the bytes that pass.
        guarded: Who is told.
        pace: How fast the client may send.
    """

    __slots__ = ("_farewell", "_guarded", "_held", "_meter", "_parser", "_skip")

    def __init__(self, parser: Parser, guarded: Guarded, pace: Pace) -> None:
        self._parser = parser
        self._guarded = guarded
        self._meter = Meter(pace)
        # Of the frame that has begun: bytes that are still to come.
        self._skip = 0
        # The beginning of a head that is not whole yet; the parser has not seen it.
        self._held = b""
        # Of a client that was told to go.
        self._farewell: Farewell | None = None

    def feed_eof(self) -> None:
        self._parser.feed_eof()

    def feed_data(self, data: bytes | bytearray | memoryview) -> tuple[bool, bytes]:
        """Take what has arrived; see aiohttp's ``WebSocketReader``."""
        if self._held or type(data) is not bytes:
            data, self._held = self._held + bytes(data), b""
        if self._farewell is not None:
            return self._see_off(self._farewell, data)
        at, end = self._skip, len(data)
        frames = messages = controls = 0
        while at + 1 < end:
            first, second = data[at], data[at + 1]
            if second < _MASKED:
                return self._break(data[:at], "a frame without a mask")
            if second < 254:
                after = at + second - 122
            else:
                width = 2 if second == 254 else 8
                if at + 2 + width > end:
                    break
                size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
                after = at + 6 + width + size
            if first & _IS_CONTROL:
                if first == _CLOSE and second > _MASKED + 1:
                    if at + 8 > end:
                        break
                    if _is_forbidden(data[at + 2 : at + 8]):
                        return self._break(data[:at], "a close code that is none")
                controls += 1
            elif first in _MESSAGES:
                messages += 1
            frames += 1
            at = after
        if not self._meter.take(end + frames * FRAME_BYTES, messages, controls):
            return self._flood(data)
        if at < end:
            data, self._held = data[:at], data[at:]
            self._skip = 0
        else:
            self._skip = at - end
        return self._parser.feed_data(data)

    def _break(self, before: bytes, what: str) -> tuple[bool, bytes]:
        self._parser.feed_data(before)
        self._guarded.broke_protocol(WebSocketError(WSCloseCode.PROTOCOL_ERROR, what))
        return _FAILED

    def _flood(self, data: bytes) -> tuple[bool, bytes]:
        """Let nothing more through but the client's answer to our close frame."""
        # The parser is left where a frame begins.
        begun, rest = min(self._skip, len(data)), max(0, self._skip - len(data))
        self._parser.feed_data(data[:begun])
        self._farewell = Farewell(rest)
        self._guarded.flooded()
        return self._see_off(self._farewell, data[begun:])

    def _see_off(self, farewell: Farewell, data: bytes) -> tuple[bool, bytes]:
        try:
            close = farewell.close_in(data)
        except TooMuch:
            self._guarded.abort()
            return _FAILED
        return self._parser.feed_data(close) if close else _DONE
