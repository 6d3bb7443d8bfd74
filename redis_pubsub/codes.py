"""What the live endpoint tells a client by number: errors, closes, unsubscribes.

The one table that server, docs and browser module share. The numbers and what clients do
on them are the Centrifuge protocol's: a close code from 3000 to 3499 or 4000 to 4499
means "come back", from 3500 to 3999 or 4500 to 4999 "do not".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A number and what it means.

    Attributes:
        code: What the client sees.
        reason: What its developer reads. Never empty, and never valid JSON.
        temporary: Of an error: the same command may succeed later.
    """

    code: int
    reason: str
    temporary: bool = False

    @property
    def is_final(self) -> bool:
        """Of a close: the client must not come back."""
        return 3500 <= self.code < 4000 or 4500 <= self.code < 5000


class Errors:
    """Answers to one command; the connection stays. Own ones: 400 to 1999."""

    INTERNAL = Code(100, "internal server error", temporary=True)
    UNAUTHORIZED = Code(101, "unauthorized")
    UNKNOWN_CHANNEL = Code(102, "unknown channel")
    PERMISSION_DENIED = Code(103, "permission denied")
    METHOD_NOT_FOUND = Code(104, "method not found")
    ALREADY_SUBSCRIBED = Code(105, "already subscribed")
    LIMIT_EXCEEDED = Code(106, "limit exceeded")
    BAD_REQUEST = Code(107, "bad request")
    NOT_AVAILABLE = Code(108, "not available")
    TOKEN_EXPIRED = Code(109, "token expired")
    EXPIRED = Code(110, "expired")
    TOO_MANY_REQUESTS = Code(111, "too many requests", temporary=True)
    UNRECOVERABLE_POSITION = Code(112, "unrecoverable position")


class EventErrors:
    """What an event socket tells a client of its frame; the socket stays open."""

    INTERNAL = Errors.INTERNAL
    PERMISSION_DENIED = Errors.PERMISSION_DENIED
    UNKNOWN_EVENT = Code(104, "no such event")
    BAD_DATA = Errors.BAD_REQUEST
    NOT_AVAILABLE = Code(108, "not available", temporary=True)
    TOO_MANY_REQUESTS = Errors.TOO_MANY_REQUESTS
    BAD_JSON = Code(120, "not JSON")
    NO_EVENT = Code(121, "no event")
    NO_BINARY = Code(122, "no binary messages")


class Disconnects:
    """Ends of a connection: the close frame, or the last push of a stream."""

    SHUTDOWN = Code(3001, "shutdown")
    INTERNAL_ERROR = Code(3004, "internal server error")
    EXPIRED = Code(3005, "connection expired")
    SUBSCRIPTION_EXPIRED = Code(3006, "subscription expired")
    SLOW = Code(3008, "slow")
    WRITE_ERROR = Code(3009, "write error")
    INSUFFICIENT_STATE = Code(3010, "insufficient state")
    FORCE_RECONNECT = Code(3011, "force reconnect")
    NO_PONG = Code(3012, "no pong")
    TOO_MANY_REQUESTS = Code(3013, "too many requests")
    STATE_INVALIDATED = Code(3014, "state invalidated")
    INVALID_TOKEN = Code(3500, "invalid token")
    BAD_REQUEST = Code(3501, "bad request")
    STALE = Code(3502, "stale")
    FORCE_DISCONNECT = Code(3503, "force disconnect")
    CONNECTION_LIMIT = Code(3504, "connection limit")
    CHANNEL_LIMIT = Code(3505, "channel limit")
    INAPPROPRIATE_PROTOCOL = Code(3506, "inappropriate protocol")
    PERMISSION_DENIED = Code(3507, "permission denied")
    NOT_AVAILABLE = Code(3508, "not available")
    TOO_MANY_ERRORS = Code(3509, "too many errors")


class Unsubscribes:
    """Ends of one subscription that the server decided. From 2500 on the client
    subscribes again by itself."""

    SERVER = Code(2000, "server unsubscribe")
    INSUFFICIENT_STATE = Code(2500, "insufficient state")
    EXPIRED = Code(2501, "subscription expired")
    STATE_INVALIDATED = Code(2502, "state invalidated")


def reconnect_in(reason: str, delay_s: float) -> str:
    """A close's reason that also says when to come back. The protocol has no field for it:
    the browser module reads it here, other clients show it to their developers.

    Args:
        reason: Some 90 ASCII characters at most: a close frame has room for 123 bytes.
        delay_s: Counted from now; next to nothing is not said.
    """
    return f"{reason}; reconnect in {delay_s:.1f} s" if delay_s >= 0.05 else reason


TRY_AGAIN = 1013
"""Close of a handler's socket: Redis is down. (IANA: try again later.)"""


def table(kind: type[object]) -> dict[str, Code]:
    """The codes of one of the classes above, by name in lower case."""
    return {
        name.lower(): value for name, value in vars(kind).items() if isinstance(value, Code)
    }
