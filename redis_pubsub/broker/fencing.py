"""Publishing out of an outbox: who may, and what became of each message.

An outbox publishes under a lock that it can lose without noticing (its process stood
still, its connection was cut). So each holder comes with a number that grows from holder
to holder, and the broker keeps the highest that it saw on a channel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..messages import Draft, Position

ID_TTL_S = 300
"""How long a channel without history remembers the ids of messages out of an outbox."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Who publishes.

    Attributes:
        outbox: Name of the outbox.
        number: Grows from holder to holder.
        holder: Unguessable, another for each holder.
    """

    outbox: str
    number: int
    holder: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The message is out.

    Attributes:
        position: Where; ``None`` if a newer version of its row was out before.
        was_there: An earlier attempt had sent it.
    """

    position: Position | None
    was_there: bool = False


@dataclass(frozen=True, slots=True)
class FencedOff:
    """Another holder has published on the channel since: nothing was sent.

    Attributes:
        seen: The highest number on the channel.
    """

    seen: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker answered this message with an error.

    Attributes:
        error: What it said.
    """

    error: str


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The message in front of it, of the same channel and round trip, was not sent: nor was
    this one, which would have overtaken it."""


Numbered = tuple[int, Draft]
Outcome = Sent | FencedOff | Refused | HeldBack

# What Redis says of itself, not of a message. It stands at the beginning of an error or,
# in older versions, behind the name of the script that met it.
_about_redis = re.compile(
    r"\b(OOM|READONLY|LOADING|BUSY|MISCONF|NOREPLICAS|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|"
    r"NOAUTH|WRONGPASS|MOVED|ASK|NOSCRIPT|UNKILLABLE|permissions to run)\b"
)


def is_about_redis(error: str) -> bool:
    """Whether an error says that Redis cannot publish now, whatever the message is."""
    return _about_redis.search(error) is not None
