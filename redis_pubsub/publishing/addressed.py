"""Sending to people rather than to a channel: users, groups, sessions, everybody."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, models

from ..addresses import (
    broadcast_channel,
    group_channel,
    personal_channel,
    session_channel,
)
from ..conf import get_config
from ..messages import Position
from . import transactions
from .drafts import drafts_of
from .sending import asend, is_kept, refuse_on_loop

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, Group
    from django.contrib.sessions.backends.base import SessionBase

    Users = Iterable[AbstractBaseUser | int | str]
    Groups = Iterable[Group | str]
    Sessions = Iterable[SessionBase | str]


def publish_to(
    payload: Any,
    *,
    topic: str = "",
    users: Users = (),
    groups: Groups = (),
    sessions: Sessions = (),
    broadcast: bool = False,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    expire_s: int | None = None,
    using: str = DEFAULT_DB_ALIAS,
    strict: bool = False,
    outbox: bool | None = None,
) -> None:
    """Send a value to people, after the commit: one round trip however many they are.

    Each live connection hears what is for its user, its session, its groups and everybody
    without asking; what has a topic it hears if it subscribes to that name, which only
    whom it is for may do. Who is meant twice gets it twice.

    Args:
        payload: As for `redis_pubsub.publish`.
        topic: What it is about; none for what everybody concerned is to hear at once.
        users: Rows or primary keys.
        groups: Rows or names.
        sessions: ``request.session``, or keys.
        broadcast: Everybody who is connected.
        event: A word for what happened.
        exclude: Id of a connection that must not get it: its sender.
        history: ``False`` to keep it nowhere.
        expire_s: Keep it for so long, whatever the channel option says, for who comes
            later: 0 keeps nothing, and forgets what was kept there before.
        using: The database whose transaction is waited for.
        strict, outbox: As for `redis_pubsub.publish`.

    Raises:
        ValueError: Nobody is named; a user is not logged in; a session was never saved.
        TypeError, InvalidChannelName, PayloadTooLarge, RuntimeError, DatabaseError: As
            `redis_pubsub.publish`.
    """
    refuse_on_loop("publish_to")
    drafts = drafts_of(
        get_config(),
        addressees(topic, users, groups, sessions, broadcast),
        payload,
        event=event,
        exclude=exclude,
        history=history,
        expire_s=expire_s,
    )
    kept = is_kept(payload, history, outbox)
    transactions.all_after_commit(drafts, using, outbox=kept, strict=strict)


async def apublish_to(
    payload: Any,
    *,
    topic: str = "",
    users: Users = (),
    groups: Groups = (),
    sessions: Sessions = (),
    broadcast: bool = False,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    expire_s: int | None = None,
    using: str = DEFAULT_DB_ALIAS,
    strict: bool = False,
    outbox: bool | None = None,
) -> list[Position | None]:
    """`publish_to` for coroutines, which have no transaction. Waits for Redis, or, where
    the outbox is on, for the database.

    Returns:
        Where it stands on each channel, as `redis_pubsub.apublish`: in the order of
        ``users``, ``groups``, ``sessions``, everybody.
    """
    make = functools.partial(
        drafts_of,
        get_config(),
        addressees(topic, users, groups, sessions, broadcast),
        payload,
        event=event,
        exclude=exclude,
        history=history,
        expire_s=expire_s,
    )
    return await asend(
        make,
        queries=isinstance(payload, models.Model),
        kept=is_kept(payload, history, outbox),
        using=using,
        strict=strict,
    )


def addressees(
    topic: str, users: Users, groups: Groups, sessions: Sessions, broadcast: bool
) -> list[str]:
    """The channels of everybody who is named, each once."""
    for name, named in (("users", users), ("groups", groups), ("sessions", sessions)):
        if isinstance(named, str | bytes):
            raise TypeError(f"{name} is a list: write {name}=[{named!r}]")
    channels = [personal_channel(_key_of_user(user), topic) for user in users]
    channels += [group_channel(_name_of_group(group), topic) for group in groups]
    channels += [session_channel(_key_of_session(each), topic) for each in sessions]
    if broadcast:
        channels.append(broadcast_channel(topic))
    if not channels:
        raise ValueError(
            "nobody is named: give users, groups or sessions, or broadcast=True"
        )
    return list(dict.fromkeys(channels))


def _key_of_user(user: AbstractBaseUser | int | str) -> str:
    pk = getattr(user, "pk", user)
    if pk is None or pk == "":
        raise ValueError(f"{user!r} is nobody: only who is logged in can be addressed")
    return str(pk)


def _name_of_group(group: Group | str) -> str:
    return group if isinstance(group, str) else group.name


def _key_of_session(session: SessionBase | str) -> str:
    key = getattr(session, "session_key", session)
    if not key:
        raise ValueError("this session was never saved: call request.session.save() first")
    return str(key)
