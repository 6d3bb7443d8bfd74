"""Telling every serving process to look again, or to end something.

The receiving sides are ``engine.control``'s handlers. What is told makes a process look
again, end a connection, or send it a value; it never grants anything, since whoever can
write to Redis could have sent it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import DEFAULT_DB_ALIAS

from .. import codec
from ..auth.standing import digest_of
from ..codes import Code, Disconnects
from ..conf import get_config
from ..engine import ControlEvent
from ..messages import CONTROL_CHANNEL, Draft, check_channel_name, new_header
from ..models import Channel
from ..options import ChannelOptions
from . import transactions
from .sending import asend

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


USERS_PER_EVENT = 500
HISTORY = ChannelOptions(history_size=1_000, history_ttl_s=300)
"""What a process that lost Redis, or stood still, can make up for; beyond it, it looks at
everybody again."""


def announce_subscribers(users: Collection[Any], *, using: str) -> None:
    """The subscriptions of these users (primary keys) changed; told after the commit."""
    _announce("subscriptions", users, using)


def announce_users(users: Collection[Any], *, using: str) -> None:
    """What these users (primary keys) are or may changed; told after the commit."""
    _announce("refresh", users, using)


def announce_all(*, using: str) -> None:
    """Anybody may have changed; told after the commit."""
    transactions.after_commit(_draft(ControlEvent(kind="all")), using)


def _announce(kind: str, users: Collection[Any], using: str) -> None:
    pks = [str(pk) for pk in users]
    for begin in range(0, len(pks), USERS_PER_EVENT):
        part = pks[begin : begin + USERS_PER_EVENT]
        transactions.after_commit(_draft(ControlEvent(kind=kind, users=part)), using)


def disconnect(
    user: AbstractBaseUser | None = None,
    *,
    client: str = "",
    connection: str = "",
    session: str = "",
    token: str = "",
    code: Code | int = Disconnects.FORCE_DISCONNECT,
    reason: str = "",
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Close a user's connections, in every process, after the commit.

    Args:
        user: Whose; all of them, live ones and handlers' sockets.
        client: Id of a single connection instead.
        connection: Another word for ``client``: ``ws.connection_id`` of a handler.
        session: Key of a session: only those that it let in. Sent as a digest.
        token: A token: only those that it let in. Sent as a digest.
        code: What the clients are told; by default 3503, and that they must not come
            back. ``Disconnects.FORCE_RECONNECT`` lets them. 3000 to 4999.
        reason: Instead of the code's own.
        using: The database whose transaction is waited for.

    Raises:
        TypeError: Nobody is named, or too many ways at once.
        ValueError: The code is not one of 3000 to 4999.
    """
    client = client or connection
    event = _disconnect_event(user, client, session, token, code, reason)
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
    """Have every process ask anew whether a user is active, whether the session or token
    of each of his connections is still good, and whether he may hear what he hears, after
    the commit: for changes that no signal of this package shows."""
    transactions.after_commit(_draft(_refresh_event(user)), using)


async def adisconnect(
    user: AbstractBaseUser | None = None,
    *,
    client: str = "",
    connection: str = "",
    session: str = "",
    token: str = "",
    code: Code | int = Disconnects.FORCE_DISCONNECT,
    reason: str = "",
) -> None:
    """`disconnect` for coroutines; knows no transaction."""
    client = client or connection
    await _send(_disconnect_event(user, client, session, token, code, reason))


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
    draft = _draft(event)
    await asend(lambda: [draft], queries=False, kept=False, using="", strict=False)


def _disconnect_event(
    user: AbstractBaseUser | None,
    client: str,
    session: str,
    token: str,
    code: Code | int,
    reason: str,
) -> ControlEvent:
    if isinstance(code, int):
        code = Code(code, reason)
    if not 3000 <= code.code <= 4999:
        raise ValueError(f"a close code is one of 3000 to 4999, not {code.code}")
    if sum(map(bool, (client, session, token))) > 1:
        raise TypeError("name one of client=, session= and token=")
    by = session or token
    return ControlEvent(
        kind="disconnect",
        users=_whose(user, client) if user is not None or not by else [],
        client=client,
        digest=digest_of(by) if by else "",
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
    # What is sent to one connection is of no use to who missed it, and may be large.
    options = ChannelOptions() if event.kind == "send" else HISTORY
    return Draft(CONTROL_CHANNEL, new_header("control"), codec.encode(event), options)
