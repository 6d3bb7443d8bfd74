"""Telling every serving process to look again, or to end something.

The receiving sides are ``engine.control``'s handlers. What is told makes a process look
again, or end a connection; it never grants anything, since whoever can write to Redis
could have sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import DEFAULT_DB_ALIAS

from .. import codec
from ..codes import Code, Disconnects
from ..conf import get_config
from ..engine import CONTROL_CHANNEL, ControlEvent, current_engine
from ..messages import Draft, check_channel_name, new_header
from ..models import Channel
from . import transactions
from .publisher import publisher

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


def announce_subscribers(users: Collection[Any], *, using: str) -> None:
    """The subscriptions of these users (primary keys) changed; told after the commit."""
    event = ControlEvent(kind="subscriptions", users=[str(pk) for pk in users])
    transactions.after_commit(_draft(event), using)


def disconnect(
    user: AbstractBaseUser | None = None,
    *,
    client: str = "",
    connection: str = "",
    code: Code | int = Disconnects.FORCE_DISCONNECT,
    reason: str = "",
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Close a user's connections, in every process, after the commit.

    Args:
        user: Whose; all of them, live ones and handlers' sockets.
        client: Id of a single connection instead.
        connection: Another word for ``client``: ``ws.connection_id`` of a handler.
        code: What the clients are told; by default 3503, and that they must not come
            back. ``Disconnects.FORCE_RECONNECT`` lets them. 3000 to 4999.
        reason: Instead of the code's own.
        using: The database whose transaction is waited for.

    Raises:
        TypeError: Neither user nor client.
        ValueError: The code is not one of 3000 to 4999.
    """
    event = _disconnect_event(user, client or connection, code, reason)
    transactions.after_commit(_draft(event), using)


def unsubscribe(
    user: AbstractBaseUser | None,
    channel: str | Channel,
    *,
    client: str = "",
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """End what a user's live connections hear of a channel, in every process, after the
    commit. Rows are not touched: a client that still may can subscribe again. To end a
    stored subscription use `Channel.unsubscribe`, which does this as well.

    Args:
        user: Whose.
        channel: Which.
        client: Id of a single connection instead of a user.
        using: The database whose transaction is waited for.

    Raises:
        TypeError: Neither user nor client.
    """
    transactions.after_commit(_draft(_unsubscribe_event(user, channel, client)), using)


def refresh(user: AbstractBaseUser, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Have every process ask anew whether a user is active and may hear what he hears,
    after the commit: for changes that no row of this package shows."""
    transactions.after_commit(_draft(_refresh_event(user)), using)


async def adisconnect(
    user: AbstractBaseUser | None = None,
    *,
    client: str = "",
    connection: str = "",
    code: Code | int = Disconnects.FORCE_DISCONNECT,
    reason: str = "",
) -> None:
    """`disconnect` for coroutines; knows no transaction."""
    await _send(_disconnect_event(user, client or connection, code, reason))


def send_to(connection: str, payload: Any, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Send a value to one connection, whichever process has it, after the commit.

    A handler's client gets the JSON as a text message, a live one a ``message`` of no
    channel. Nothing keeps it: where the connection is gone, so is the message.

    Args:
        connection: Its id: ``ws.connection_id`` of a handler, the client id of a live one.
        payload: Anything JSON-able.
        using: The database whose transaction is waited for.

    Raises:
        TypeError: The payload is not JSON-able, or there is no id.
        PayloadTooLarge: Over ``limits["message_bytes"]``.
    """
    transactions.after_commit(_draft(_send_event(connection, payload)), using)


async def asend_to(connection: str, payload: Any) -> None:
    """`send_to` for coroutines; knows no transaction."""
    await _send(_send_event(connection, payload))


async def aunsubscribe(
    user: AbstractBaseUser | None, channel: str | Channel, *, client: str = ""
) -> None:
    """`unsubscribe` for coroutines; knows no transaction."""
    await _send(_unsubscribe_event(user, channel, client))


async def arefresh(user: AbstractBaseUser) -> None:
    """`refresh` for coroutines; knows no transaction."""
    await _send(_refresh_event(user))


async def _send(event: ControlEvent) -> None:
    engine = current_engine()
    if engine is None:
        await asyncio.to_thread(publisher.send, [_draft(event)])
    else:
        await engine.hub.broker.publish([_draft(event)])


def _disconnect_event(
    user: AbstractBaseUser | None, client: str, code: Code | int, reason: str
) -> ControlEvent:
    if isinstance(code, int):
        code = Code(code, reason)
    if not 3000 <= code.code <= 4999:
        raise ValueError(f"a close code is one of 3000 to 4999, not {code.code}")
    return ControlEvent(
        kind="disconnect",
        users=_whose(user, client),
        client=client,
        code=code.code,
        reason=reason or code.reason,
    )


def _send_event(connection: str, payload: Any) -> ControlEvent:
    if not isinstance(connection, str) or not connection:
        raise TypeError("send_to() takes the id of a connection: ws.connection_id")
    raw = codec.encode(payload)
    codec.check_size(raw, get_config().limits.message_bytes)
    return ControlEvent(kind="send", client=connection, data=msgspec.Raw(raw))


def _unsubscribe_event(
    user: AbstractBaseUser | None, channel: str | Channel, client: str
) -> ControlEvent:
    name = check_channel_name(channel if isinstance(channel, str) else channel.name)
    users = _whose(user, client)
    return ControlEvent(kind="unsubscribe", users=users, client=client, channel=name)


def _refresh_event(user: AbstractBaseUser) -> ControlEvent:
    return ControlEvent(kind="refresh", users=_whose(user, ""))


def _whose(user: AbstractBaseUser | None, client: str) -> list[str]:
    if (user is None) is not bool(client):
        raise TypeError("name a user, or the id of a connection as client=")
    return [] if user is None else [str(user.pk)]


def _draft(event: ControlEvent) -> Draft:
    return Draft(CONTROL_CHANNEL, new_header("control"), codec.encode(event))
