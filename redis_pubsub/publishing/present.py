"""Who is on a channel, for views, commands and coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, overload

from .. import codec
from ..broker.presence import Member
from ..engine import current_engine
from ..messages import check_channel_name
from .publisher import publisher

By = Literal["client", "user"]


@dataclass(frozen=True, slots=True)
class PresentClient:
    """One connection on a channel.

    Attributes:
        client: Its id.
        user: The user's primary key as text, ``""`` for an anonymous one.
        info: What other clients see of it, decoded: usually a ``dict``.
    """

    client: str
    user: str
    info: Any


class PresentUser(NamedTuple):
    """One user on a channel.

    Attributes:
        user: The primary key as text. All anonymous ones are one entry, ``""``.
        clients: The user's connections, at least one.
    """

    user: str
    clients: list[PresentClient]


@overload
def presence(channel: str, by: Literal["client"] = "client") -> list[PresentClient]: ...


@overload
def presence(channel: str, by: Literal["user"]) -> list[PresentUser]: ...


def presence(channel: str, by: By = "client") -> list[PresentClient] | list[PresentUser]:
    """Who is on a channel now, in all processes. Reads all of them: for channels of up
    to some thousands.

    Args:
        channel: Its name.
        by: ``"client"`` for one entry per connection, ``"user"`` for one per user. Both
            in no particular order.

    Raises:
        BrokerUnavailable: Redis did not answer.
        InvalidChannelName: The name is empty, too long or has control characters.
        ValueError: ``by`` is something else.
        RuntimeError: Called on a running event loop; use `apresence`.
    """
    _check(channel, by)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _present(publisher.broker().presence.members(channel), by)
    raise RuntimeError(
        "presence() would block the event loop; write `await apresence(...)` here"
    )


@overload
async def apresence(
    channel: str, by: Literal["client"] = "client"
) -> list[PresentClient]: ...


@overload
async def apresence(channel: str, by: Literal["user"]) -> list[PresentUser]: ...


async def apresence(
    channel: str, by: By = "client"
) -> list[PresentClient] | list[PresentUser]:
    """`presence` for coroutines."""
    _check(channel, by)
    engine = current_engine()
    if engine is None:
        members = await asyncio.to_thread(
            lambda: publisher.broker().presence.members(channel)
        )
    else:
        members = await engine.presence.members(channel)
    return _present(members, by)


def _check(channel: str, by: str) -> None:
    check_channel_name(channel)
    if by not in ("client", "user"):
        raise ValueError(f'presence is by "client" or by "user", not by {by!r}')


def _present(members: Iterable[Member], by: By) -> list[PresentClient] | list[PresentUser]:
    clients = [
        PresentClient(member.client, member.user, codec.decode(member.info))
        for member in members
    ]
    if by == "client":
        return clients
    users: dict[str, list[PresentClient]] = {}
    for client in clients:
        users.setdefault(client.user, []).append(client)
    return [PresentUser(user, theirs) for user, theirs in users.items()]
