"""What an event socket says on the wire, and the errors that say no.

A text frame is ``{"event": name, "data": value}``, both ways. What goes wrong with a
client's frame is told in an ``error`` event, and the socket stays open.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ... import codec
from ...codes import Code, Disconnects, EventErrors
from ...exceptions import PubSubError
from ..live.procedures import RPCError

RESERVED = frozenset({"open", "close", "error"})
"""Events that no handler and no ``emit`` may name: in the browser they are the socket's."""


class EventError(RPCError):
    """What a handler raises to answer with a code of its own; see `RPCError`."""


class Deny(PubSubError):
    """Raised by ``on_connect`` or ``on_open``: this client is not let in.

    Args:
        reason: What the client is told.
        code: Close code for a socket that was open already; from 3500 to 3999 and from 4500
            on the browser's class does not come back.
    """

    def __init__(
        self,
        reason: str = Disconnects.PERMISSION_DENIED.reason,
        code: int = Disconnects.PERMISSION_DENIED.code,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = check_close_code(code)


class Refused(PubSubError):
    """A client's frame is not obeyed.

    Attributes:
        code: What the client is told.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.reason)
        self.code = code


class _Frame(msgspec.Struct):
    event: str
    # As a client that sends none means it.
    data: msgspec.Raw = msgspec.Raw(b"{}")


_decoder = msgspec.json.Decoder(_Frame)


def parse(text: str) -> tuple[str, msgspec.Raw]:
    """Name and data of a client's frame.

    Raises:
        Refused: It is not JSON, or has no event.
    """
    try:
        frame = _decoder.decode(text)
    except msgspec.ValidationError:
        raise Refused(EventErrors.NO_EVENT) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Refused(EventErrors.BAD_JSON) from None
    return frame.event, frame.data


def error_payload(code: Code, event: str) -> bytes:
    """What a client is told of its frame."""
    data = {"code": code.code, "reason": code.reason, "event": event[:100]}
    return codec.encode({"event": "error", "data": data})


def as_data(data: Any) -> Any:
    """What ``emit("left")`` sends: an empty object, as a client that names no data."""
    return {} if data is None else data


def check_event(name: str) -> str:
    """Return an event's name if a site may use it.

    Raises:
        TypeError: It is not a ``str``.
        ValueError: It is empty, or one of the socket's own.
    """
    if not isinstance(name, str):
        raise TypeError(f"an event's name is a str, not {type(name).__name__}")
    if not name:
        raise ValueError("an event's name must not be empty")
    if name in RESERVED:
        raise ValueError(
            f"{name!r} is the socket's own event; for its hooks write @socket.on_open and "
            "@socket.on_close, for errors raise EventError"
        )
    return name


def check_close_code(code: int) -> int:
    """Return a close code if a site may send it.

    Raises:
        ValueError: It is neither 1000 nor one of 3000 to 4999.
    """
    if code != 1000 and not 3000 <= code <= 4999:
        raise ValueError(f"a close code is 1000, or one of 3000 to 4999, not {code}")
    return code
