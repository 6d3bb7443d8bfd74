"""How fast a client may send on a WebSocket, in messages, bytes and control frames."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..options import Limits

FRAME_BYTES = 64
"""What a frame costs of the bytes a client may send, besides its own: an empty one is
work too."""


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


class Meter:
    """What one client has sent of what it may.

    Args:
        pace: How fast it may.
    """

    __slots__ = ("_bytes_at", "_control_at", "_message_at", "_pace")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        # When each of them is used up no more; see `buckets.TokenBucket`.
        self._message_at = self._bytes_at = self._control_at = 0.0

    def take(self, size: int, messages: int, controls: int) -> bool:
        """Count so many bytes in so many messages and control frames; whether that is
        still in pace."""
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
