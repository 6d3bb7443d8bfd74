"""Sending: from a save, a view, a command or a coroutine, to everybody who listens.

Always after the commit, everything of one transaction in one round trip, and never so
that a failure breaks the write. Retrying what Redis did not take is ``outbox``'s.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from django.db import DEFAULT_DB_ALIAS, models

from ..conf import get_config
from ..hooks import hooks
from ..messages import Draft, Position
from ..models import Channel
from ..models.publishable import uses_outbox
from . import transactions
from .control import announce_subscribers
from .drafts import draft_of_instance, drafts_of
from .histories import ahistory, alast, history, last
from .once import aput_once, put_once
from .present import apresence, presence
from .sending import asend, is_kept, refuse_on_loop

__all__ = ["apublish", "connect", "publish"]


def publish(
    channel: str | Channel,
    payload: Any,
    *,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    expire_s: int | None = None,
    audience: Literal["", "everyone"] = "",
    using: str = DEFAULT_DB_ALIAS,
    strict: bool = False,
    outbox: bool | None = None,
) -> None:
    """Send a value to everybody who listens to a channel, after the commit.

    Inside a transaction the message is sent when it commits and forgotten when it (or its
    savepoint) rolls back; outside, at once. If Redis fails, the failure is logged and
    counted. Where the outbox is on, the message is a row of the transaction, and is sent
    as soon as Redis takes it.

    Args:
        channel: Its name, or its row.
        payload: A model instance, or anything JSON-able (dataclasses, datetimes,
            ``Decimal`` and ``UUID`` included). Encoded now.
        event: A word for what happened.
        exclude: Id of a connection that must not get it: its sender.
        history: ``False`` for what is of no use later, as "is typing": sent, never kept,
            whatever the channel keeps, and past the outbox. A model instance is kept in
            any case.
        expire_s: Keep it for so long, whatever the channel option says: the last message
            at least, as long as nothing newer comes. 0 keeps nothing, and forgets what the
            channel has kept so far.
        audience: ``"everyone"`` to send a plain value to all who listen on a channel on
            which each audience sees something else. Models decide for themselves.
        using: The database whose transaction is waited for.
        strict: Raise `BrokerUnavailable` if Redis fails and no transaction is open. Without
            effect where the outbox is on: nothing is lost.
        outbox: Whether the database keeps the message until Redis has it; ``None`` for
            what the setting says, or the model.

    Raises:
        TypeError: The payload is not JSON-able.
        InvalidChannelName: The name is empty, too long or has control characters.
        PayloadTooLarge: Over ``limits["message_bytes"]``.
        AudienceRequired: A plain value on such a channel, without ``audience``.
        RuntimeError: Called on a running event loop; use `apublish`.
        DatabaseError: It could not be written to the outbox.
    """
    refuse_on_loop("publish")
    draft = _draft(channel, payload, event, exclude, history, expire_s, audience)
    kept = is_kept(payload, history, outbox)
    transactions.after_commit(draft, using, strict=strict, outbox=kept)


async def apublish(
    channel: str | Channel,
    payload: Any,
    *,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    expire_s: int | None = None,
    audience: Literal["", "everyone"] = "",
    using: str = DEFAULT_DB_ALIAS,
    strict: bool = False,
    outbox: bool | None = None,
) -> Position | None:
    """`publish` for coroutines, which have no transaction. Waits for Redis; where the
    outbox is on, for the database instead, and comes after what was committed before.

    Args: as `publish`; ``using`` is the outbox's database.

    Returns:
        Where the message stands in the channel's history (offset 0 without one);
        ``None`` if Redis failed, a newer version of the row was sent before, or the
        outbox has the message (``outbox=False`` sends it past that).

    Raises:
        BrokerUnavailable: Redis failed, and ``strict`` was asked for.
        DatabaseError: It could not be written to the outbox.
    """
    make = functools.partial(
        _draft, channel, payload, event, exclude, history, expire_s, audience
    )
    (position,) = await asend(
        lambda: [make()],
        queries=isinstance(payload, models.Model),
        kept=is_kept(payload, history, outbox),
        using=using,
        strict=strict,
    )
    return position


def _draft(
    channel: str | Channel,
    payload: Any,
    event: str,
    exclude: str,
    history: bool,
    expire_s: int | None,
    audience: str,
) -> Draft:
    (draft,) = drafts_of(
        get_config(),
        [channel if isinstance(channel, str) else channel.name],
        payload,
        event=event,
        exclude=exclude,
        history=history,
        expire_s=expire_s,
        audience=audience,
    )
    return draft


def _publish_instance(
    channel: str, instance: models.Model, *, event: str, fields: Any, using: str
) -> None:
    refuse_on_loop("publish")
    draft = draft_of_instance(get_config(), channel, instance, event=event, fields=fields)
    transactions.after_commit(draft, using, outbox=uses_outbox(type(instance)))


def connect() -> None:
    """Give models and tickets what they need of this floor; called by ``apps.ready()``."""
    hooks.publish_instance = _publish_instance
    hooks.announce_subscribers = announce_subscribers
    hooks.presence = presence
    hooks.apresence = apresence
    hooks.history = history
    hooks.ahistory = ahistory
    hooks.last = last
    hooks.alast = alast
    hooks.put_once = put_once
    hooks.aput_once = aput_once
