"""What is sent: JSON objects of one size that carry a sequence number and a time.

Their size is fixed, so that the place of every message in a socket's stream is known.
"""

from __future__ import annotations

import time

FIRST = 10**9
"""Sequence numbers start here: each has ten digits, and JSON allows no leading zero."""
_FORM = b'{"n":%d,"t":%17.6f,"p":"%s"}'
_OVERHEAD_BYTES = len(_FORM % (FIRST, 1e9, b""))


def payload(number: int, size_bytes: int) -> bytes:
    """The payload with this number, made now."""
    return _FORM % (FIRST + number, time.time(), b"x" * (size_bytes - _OVERHEAD_BYTES))


def number_of(raw: bytes) -> int:
    """The sequence number of a payload."""
    return int(raw[5:15]) - FIRST


def time_of(raw: bytes) -> float:
    """When a payload was made, Unix time in seconds."""
    return float(raw[20:37])
