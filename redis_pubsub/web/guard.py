"""What a client may send on a WebSocket, looked at frame by frame before aiohttp's parser.

The parser is strict about nearly everything, and has no opinion on how much is too much:
it takes any number of pings, messages and empty fragments, frames without a mask, and
close codes that nobody may send. So each piece of what arrives passes a `Guard` first,
which reads the heads of the frames and nothing else. That costs a microsecond for a
message (docs/topics/security.rst).
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import WebSocketError, WSCloseCode

if TYPE_CHECKING:
    from ..options import Limits

FRAME_BYTES = 64
"""What a frame costs of the bytes a client may send, besides its own: an empty one is
work too."""
FAREWELL_BYTES = 1_048_576
"""What is still read of a client that was told to go, so that it sees why."""
_MASKED = 0x80
_MESSAGES = (0x01, 0x02, 0x81, 0x82)
_IS_CONTROL = 0x08
_CLOSE = 0x88
_DONE = (False, b"")
_FAILED = (True, b"")


class Pace(NamedTuple):
    """How fast a client may send; shared by all sockets of a kind.

    Attributes:
        message_s: Seconds that a message is worth.
        messages_s: Seconds of messages that may come at once.
        byte_s: Seconds that a byte is worth.
        bytes_s: Seconds of bytes that may come at once.
        control_s: Seconds that a ping, pong or close is worth.
        controls_s: Seconds of those that may come at once.
    """

    message_s: float
    messages_s: float
    byte_s: float
    bytes_s: float
    control_s: float
    controls_s: float


@functools.lru_cache(maxsize=256)
def pace_of_handlers(limits: Limits, message_bytes: int) -> Pace:
    """The pace of a handler's socket.

    Args:
        limits: The setting's.
        message_bytes: The largest message: two of them may always come at once.
    """
    return Pace(
        1 / limits.messages_per_s,
        limits.messages_burst / limits.messages_per_s,
        1 / limits.bytes_per_s,
        max(limits.bytes_burst, 2 * message_bytes) / limits.bytes_per_s,
        1 / limits.control_frames_per_s,
        limits.control_frames_burst / limits.control_frames_per_s,
    )


@functools.lru_cache(maxsize=16)
def pace_of_live(limits: Limits) -> Pace:
    """The pace of the live endpoint's sockets: commands are counted where they are read."""
    burst = max(limits.live_bytes_burst, 2 * limits.live_command_bytes)
    return Pace(
        0.0,
        0.0,
        1 / limits.live_bytes_per_s,
        burst / limits.live_bytes_per_s,
        1 / limits.control_frames_per_s,
        limits.control_frames_burst / limits.control_frames_per_s,
    )


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

    __slots__ = (
        "_bytes_at",
        "_control_at",
        "_guarded",
        "_held",
        "_leave_bytes",
        "_message_at",
        "_pace",
        "_parser",
        "_skip",
    )

    def __init__(self, parser: Parser, guarded: Guarded, pace: Pace) -> None:
        self._parser = parser
        self._guarded = guarded
        self._pace = pace
        # Of the frame that has begun: bytes that are still to come.
        self._skip = 0
        # The beginning of a head that is not whole yet; the parser has not seen it.
        self._held = b""
        # When each of them is used up no more; see `buckets.TokenBucket`.
        self._message_at = self._bytes_at = self._control_at = 0.0
        # Of a client that was told to go: what it may still send.
        self._leave_bytes: int | None = None

    def feed_eof(self) -> None:
        self._parser.feed_eof()

    def feed_data(self, data: bytes | bytearray | memoryview) -> tuple[bool, bytes]:
        """Take what has arrived; see aiohttp's ``WebSocketReader``."""
        if self._held or type(data) is not bytes:
            data, self._held = self._held + bytes(data), b""
        if self._leave_bytes is not None:
            return self._see_off(data, self._skip)
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
        if not self._is_in_pace(end + frames * FRAME_BYTES, messages, controls):
            return self._flood(data)
        if at < end:
            data, self._held = data[:at], data[at:]
            self._skip = 0
        else:
            self._skip = at - end
        return self._parser.feed_data(data)

    def _is_in_pace(self, size: int, messages: int, controls: int) -> bool:
        pace, now = self._pace, time.monotonic()
        at = self._bytes_at
        self._bytes_at = at = (at if at > now else now) + size * pace.byte_s
        is_in_pace = at - now <= pace.bytes_s
        if messages and pace.message_s:
            at = self._message_at
            self._message_at = at = (at if at > now else now) + messages * pace.message_s
            is_in_pace = is_in_pace and at - now <= pace.messages_s
        if controls:
            at = self._control_at
            self._control_at = at = (at if at > now else now) + controls * pace.control_s
            is_in_pace = is_in_pace and at - now <= pace.controls_s
        return is_in_pace

    def _break(self, before: bytes, what: str) -> tuple[bool, bytes]:
        self._parser.feed_data(before)
        self._guarded.broke_protocol(WebSocketError(WSCloseCode.PROTOCOL_ERROR, what))
        return _FAILED

    def _flood(self, data: bytes) -> tuple[bool, bytes]:
        """Let nothing more through but the client's answer to our close frame."""
        self._leave_bytes = FAREWELL_BYTES
        # The parser is left where a frame begins.
        begun, self._skip = min(self._skip, len(data)), max(0, self._skip - len(data))
        self._parser.feed_data(data[:begun])
        self._guarded.flooded()
        return self._see_off(data, begun + self._skip)

    def _see_off(self, data: bytes, at: int) -> tuple[bool, bytes]:
        assert self._leave_bytes is not None, "it was told to go"
        end = len(data)
        self._leave_bytes -= end
        if self._leave_bytes < 0:
            self._guarded.abort()
            return _FAILED
        while at + 1 < end:
            size, width = data[at + 1] & 0x7F, 0
            if data[at] == _CLOSE:
                if at + 6 + size > end:
                    break
                return self._parser.feed_data(data[at:])
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
        return _DONE
