"""What the server answers. What is zero is left out, unless a client stumbles without it:
those fields have no default here."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ....messages import Message
from .commands import NO_DATA


class ClientInfo(Struct, omit_defaults=True):
    """Who a connection is, as others are told.

    Attributes:
        user: Primary key as text; ``""`` for nobody.
        client: Id of the connection.
        conn_info: What the connection's token says of it.
        chan_info: What the subscription's token says of it.
    """

    user: str
    client: str
    conn_info: Raw = NO_DATA
    chan_info: Raw = NO_DATA


def some(data: Raw) -> Raw:
    """Data for a field: what is empty is left out, which goes by identity."""
    return data if bytes(data) else NO_DATA


class SubscribeResult(Struct, omit_defaults=True):
    """``publications`` are messages here; the codec writes them."""

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Message] = msgspec.field(default_factory=list)
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA
    was_recovering: bool = False


class SubscribePush(Struct, omit_defaults=True):
    """The server has subscribed the client: what `SubscribeResult` says of that."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False

    @classmethod
    def of_result(cls, result: SubscribeResult) -> SubscribePush:
        return cls(result.recoverable, result.epoch, result.offset, result.positioned)


class ConnectResult(Struct, omit_defaults=True):
    client: str
    version: str
    expires: bool = False
    ttl: int = 0
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] = msgspec.field(default_factory=dict)
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class RefreshResult(Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Empty(Struct):
    """Success, and nothing to say."""


class PresenceResult(Struct):
    """Connection id to `ClientInfo`, as JSON."""

    presence: dict[str, Raw]


class PresenceStatsResult(Struct):
    num_clients: int
    num_users: int


class HistoryResult(Struct):
    publications: list[Message]
    epoch: str
    offset: int


class RPCResult(Struct, omit_defaults=True):
    data: Raw = NO_DATA


Result = (
    ConnectResult
    | SubscribeResult
    | RefreshResult
    | SubRefreshResult
    | Empty
    | PresenceResult
    | PresenceStatsResult
    | HistoryResult
    | RPCResult
)


_NO_TAGS: dict[str, str] = {}


def tags(message: Message) -> dict[str, str]:
    """What a publication says of itself besides its data."""
    header: Any = message.header
    if not (header.event or header.model or header.pk):
        # Plain values on a channel for each user: most of what a message costs is this.
        return _NO_TAGS
    known = {"event": header.event, "model": header.model, "pk": header.pk}
    return {name: value for name, value in known.items() if value}
