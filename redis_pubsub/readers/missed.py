"""What a user missed, as messages: read from the database, in a thread.

The rows are those that a tracked model's default manager shows, as they are now. Each is
made into the message that publishing it now would make, so callbacks get the same kind of
value as from a live one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.db import router

from ..messages import CREATE, Message, Position, message_of
from ..models import PublishableModel
from ..publishing.drafts import draft_of_instance
from ..undelivered import Undelivered, inherited_tables
from .values import model_of

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

    from ..engine import Engine

logger = logging.getLogger("redis_pubsub.readers")

NOWHERE = Position("", 0)


class Missed(NamedTuple):
    """A row that a user did not get.

    Attributes:
        channel: The channel's name.
        model: The row's model.
        pk: Its primary key.
    """

    channel: str
    model: type[PublishableModel]
    pk: Any


def tracked_models() -> list[type[PublishableModel]]:
    """The models, proxies apart, whose delivery is tracked."""
    return [
        model
        for model in apps.get_models()
        if issubclass(model, PublishableModel)
        and model.TRACK_DELIVERY
        and not model._meta.proxy
    ]


def find_missed(user: Any, channels: Collection[Any], most: int) -> list[Missed]:
    """The first rows that a user did not get on some channels, oldest first.

    One query for each tracked model. Rows of a model without ``TRACK_DELIVERY_BY`` have
    no moment; they come first, by primary key.

    Args:
        user: Primary key of a user.
        channels: Primary keys of channels.
        most: How many at most.
    """
    found: list[tuple[tuple[datetime, ...], Missed]] = []
    for model in tracked_models():
        # A row with an inherited table is found as what it is.
        leaves = {f"{name}__isnull": True for name in inherited_tables(model)}
        rows = _committed(model).filter(channel__in=channels, **leaves)
        for moment, pk, channel in Undelivered(rows).for_user(user).oldest(most):
            made = () if moment is None else (moment,)
            found.append((made, Missed(channel, model, pk)))
    # Stable: where the moments are the same, the order is the database's.
    found.sort(key=lambda each: each[0])
    return [missed for _, missed in found[:most]]


def read_missed(engine: Engine, wanted: Iterable[Missed]) -> list[Message]:
    """The rows as messages, in the given order; those that are gone are left out.

    One query for each model, and one for each of its many-to-many relations.
    """
    keys = defaultdict(list)
    for missed in wanted:
        keys[missed.model].append(missed.pk)
    rows: dict[tuple[Any, Any], PublishableModel] = {}
    for model, pks in keys.items():
        relations = [field.name for field in model._meta.many_to_many]
        found = _committed(model).filter(pk__in=pks).select_related("channel")
        rows |= {(model, row.pk): row for row in found.prefetch_related(*relations)}
    messages = []
    for missed in wanted:
        known = rows.get((missed.model, missed.pk))
        if known is not None and known.channel.name == missed.channel:
            message = _message(engine, known)
            if message is not None:
                messages.append(message)
    return messages


def _committed(model: type[PublishableModel]) -> QuerySet[Any]:
    """Rows that are committed, which a replica may not have yet: they would come neither
    from here nor live."""
    rows: QuerySet[Any] = model._default_manager.using(router.db_for_write(model))
    return rows


def _message(engine: Engine, row: PublishableModel) -> Message | None:
    channel = row.channel.name
    try:
        draft = draft_of_instance(engine.config, channel, row, event=CREATE)
    except Exception:
        engine.metrics.count("unreadable_messages")
        logger.exception("%s %s cannot be caught up with", row._meta.label, row.pk)
        return None
    message = message_of(channel, draft.header, draft.raw, NOWHERE)
    # Where the channel may not carry the model, live messages are data and not tracked.
    return None if model_of(message, engine) is None else message
