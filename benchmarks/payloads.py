"""What is sent: JSON objects of one size that carry a sequence number and a time.

Their size is fixed, so that the place of every message in a socket's stream is known.
The time is the monotonic clock's, which all processes of a machine share. `sockets.c`
reads the same form. Imports nothing of the project: publishers of peers use it too.
"""

from __future__ import annotations

import time

FIRST = 10**9
"""Sequence numbers start here: each has ten digits, and JSON allows no leading zero."""
EPOCH_US = 10**15
"""Added to times for the same reason; what comes out is exact in JavaScript too."""
_FORM = b'{"n":%d,"t":%d,"p":"%s"}'
_OVERHEAD_BYTES = len(_FORM % (FIRST, EPOCH_US, b""))


def now_us() -> int:
    """Microseconds of the monotonic clock."""
    return time.monotonic_ns() // 1000


def payload(number: int, size_bytes: int) -> bytes:
    """The payload with this number, made now."""
    filler = b"x" * (size_bytes - _OVERHEAD_BYTES)
    return _FORM % (FIRST + number, EPOCH_US + now_us(), filler)


def value(number: int, size_bytes: int) -> dict[str, object]:
    """The same before it is encoded."""
    filler = "x" * (size_bytes - _OVERHEAD_BYTES)
    return {"n": FIRST + number, "t": EPOCH_US + now_us(), "p": filler}


def number_of(raw: bytes) -> int:
    """The sequence number of a payload."""
    return int(raw[5:15]) - FIRST


def time_of(raw: bytes) -> float:
    """When a payload was made, by the monotonic clock, in seconds."""
    return (int(raw[20:36]) - EPOCH_US) / 1e6
