"""What a client says. Unknown fields are ignored, as the protocol wants it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

NO_DATA = Raw()

OFFSET_MAX = 2**63 - 1
"""Beyond it Redis would take an offset for an error of ours."""

Id = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Offset = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]


class SubscribeRequest(Struct, omit_defaults=True):
    """A wish to hear a channel; inside a connect command, what is known of one."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: int = 0
    type: int = 0
    tf: Raw = NO_DATA


class ConnectRequest(Struct, omit_defaults=True):
    """The first command of a connection."""

    token: str = ""
    data: Raw = NO_DATA
    subs: dict[str, SubscribeRequest] = msgspec.field(default_factory=dict)
    name: str = ""
    version: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class UnsubscribeRequest(Struct, omit_defaults=True):
    channel: str = ""


class PublishRequest(Struct, omit_defaults=True):
    channel: str = ""
    data: Raw = NO_DATA


class PresenceRequest(Struct, omit_defaults=True):
    channel: str = ""


class PresenceStatsRequest(Struct, omit_defaults=True):
    channel: str = ""


class StreamPosition(Struct, omit_defaults=True):
    offset: Offset = 0
    epoch: str = ""


class HistoryRequest(Struct, omit_defaults=True):
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class RPCRequest(Struct, omit_defaults=True):
    method: str = ""
    data: Raw = NO_DATA


class SendRequest(Struct, omit_defaults=True):
    data: Raw = NO_DATA


class RefreshRequest(Struct, omit_defaults=True):
    token: str = ""


class SubRefreshRequest(Struct, omit_defaults=True):
    channel: str = ""
    token: str = ""


class PingRequest(Struct, omit_defaults=True):
    pass


class Command(Struct, omit_defaults=True):
    """One command: an id and one request. Nothing at all is a pong."""

    id: Id = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    rpc: RPCRequest | None = None
    send: SendRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None
    ping: PingRequest | None = None

    @property
    def kind(self) -> str:
        """Which request it is; ``""`` for a pong, or for nothing this server knows."""
        for name in KINDS:
            if getattr(self, name) is not None:
                return name
        return ""

    @property
    def request(self) -> Request | None:
        """The one of its `kind`."""
        kind = self.kind
        request: Request | None = getattr(self, kind) if kind else None
        return request


KINDS = tuple(name for name in Command.__struct_fields__ if name != "id")

Request = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | RPCRequest
    | SendRequest
    | RefreshRequest
    | SubRefreshRequest
    | PingRequest
)
