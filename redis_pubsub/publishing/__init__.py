"""Sending: from a save, a view, a command or a coroutine, to everybody who listens.

Always after the commit, everything of one transaction in one round trip, and never so
that a failure breaks the write. Retrying what Redis did not take is ``outbox``'s.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from django.db import DEFAULT_DB_ALIAS, models

from ..conf import get_config
from ..engine import current_engine
from ..exceptions import BrokerUnavailable
from ..hooks import hooks
from ..messages import UPDATE, Draft, Position
from ..models import Channel
from ..models.publishable import uses_outbox
from . import transactions
from .control import announce_subscribers
from .drafts import draft_of_instance, draft_of_payload
from .present import apresence, presence
from .publisher import publisher

__all__ = ["apublish", "connect", "publish"]


def publish(
    channel: str | Channel,
    payload: Any,
    *,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    audience: Literal["", "everyone"] = "",
    using: str = DEFAULT_DB_ALIAS,
    strict: bool = False,
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
        audience: ``"everyone"`` to send a plain value to all who listen on a channel on
            which each audience sees something else. Models decide for themselves.
        using: The database whose transaction is waited for.
        strict: Raise `BrokerUnavailable` if Redis fails and no transaction is open. Without
            effect where the outbox is on: nothing is lost.

    Raises:
        TypeError: The payload is not JSON-able.
        InvalidChannelName: The name is empty, too long or has control characters.
        PayloadTooLarge: Over ``limits["message_bytes"]``.
        AudienceRequired: A plain value on such a channel, without ``audience``.
        RuntimeError: Called on a running event loop; use `apublish`.
        DatabaseError: It could not be written to the outbox.
    """
    _refuse_on_loop()
    draft = _draft(channel, payload, event, exclude, history, audience)
    is_row = isinstance(payload, models.Model)
    outbox = uses_outbox(type(payload)) if is_row else history and get_config().outbox
    transactions.after_commit(draft, using, strict=strict, outbox=outbox)


async def apublish(
    channel: str | Channel,
    payload: Any,
    *,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    audience: Literal["", "everyone"] = "",
    strict: bool = False,
) -> Position | None:
    """`publish` for coroutines. Waits for Redis; knows no transaction and no outbox.

    Returns:
        Where the message stands in the channel's history (offset 0 without one);
        ``None`` if Redis failed or a newer version of the row was sent before.

    Raises:
        BrokerUnavailable: Redis failed, and ``strict`` was asked for.
    """
    if isinstance(payload, models.Model):
        engine = current_engine()
        run = engine.orm.run if engine else asyncio.to_thread
        draft = await run(_draft, channel, payload, event, exclude, history, audience)
    else:
        draft = _draft(channel, payload, event, exclude, history, audience)
    engine = current_engine()
    if engine is None:
        return (await asyncio.to_thread(publisher.send, [draft], strict=strict))[0]
    try:
        return (await engine.hub.broker.publish([draft]))[0]
    except BrokerUnavailable as error:
        if strict:
            raise
        publisher.failed([draft], error)
        return None


def _draft(
    channel: str | Channel,
    payload: Any,
    event: str,
    exclude: str,
    history: bool,
    audience: str,
) -> Draft:
    name = channel if isinstance(channel, str) else channel.name
    if isinstance(payload, models.Model):
        return draft_of_instance(
            get_config(), name, payload, event=event or UPDATE, exclude=exclude
        )
    return draft_of_payload(
        get_config(),
        name,
        payload,
        event=event,
        exclude=exclude,
        history=history,
        audience=audience,
    )


def _publish_instance(
    channel: str, instance: models.Model, *, event: str, fields: Any, using: str
) -> None:
    _refuse_on_loop()
    draft = draft_of_instance(get_config(), channel, instance, event=event, fields=fields)
    transactions.after_commit(draft, using, outbox=uses_outbox(type(instance)))


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "publish() would block the event loop; write `await apublish(...)` here"
    )


def connect() -> None:
    """Give the models what they need of this floor; called by ``apps.ready()``."""
    hooks.publish_instance = _publish_instance
    hooks.announce_subscribers = announce_subscribers
    hooks.presence = presence
    hooks.apresence = apresence
