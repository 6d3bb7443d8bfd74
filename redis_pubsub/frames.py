"""WebSocket frames of a server, made once and written to many sockets.

Server frames are not masked, so the same bytes are right for every socket.

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable

from .messages import Message

TEXT = 0x81
BINARY = 0x82

Framing = Callable[[Message], bytes]
"""Turns a message into what one kind of connection gets. Called once per message and
process: keep it a module's function or another object that is the same each time."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One unfragmented frame around a payload."""
    size = len(payload)
    if size < 126:
        return b"%c%c%s" % (opcode, size, payload)
    if size < 65536:
        return b"%c\x7e%s%s" % (opcode, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%s%s" % (opcode, size.to_bytes(8, "big"), payload)


def payload_frame(message: Message) -> bytes:
    """A text frame with the payload and nothing else."""
    return frame(message.raw)


def cut_reason(reason: str, limit_bytes: int = 123) -> bytes:
    """A close reason that fits into a control frame, cut between characters.

    Source: RFC 6455, section 5.5 (a control frame holds 125 bytes, 2 are the code).
    """
    return (
        reason.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore").encode()
    )
