"""Writing receipts, many in one statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import router

from .models import Channel, ReceivedPublication


class Receipt(NamedTuple):
    """A publication that was handed to a subscriber.

    Attributes:
        channel: The channel's name.
        subscriber: The user's primary key.
        model: Label of the published model.
        pk: Its row's primary key as text.
    """

    channel: str
    subscriber: Any
    model: str
    pk: str


def record(receipts: Iterable[Receipt]) -> None:
    """Write receipts; those that are there already stay as they are."""
    wanted = set(receipts)
    # A replica may not know yet what is new.
    using = router.db_for_write(ReceivedPublication)
    kinds = ContentType.objects.db_manager(using)
    channels = dict(
        Channel.objects.using(using)
        .filter(name__in={receipt.channel for receipt in wanted})
        .values_list("name", "pk")
    )
    # A user deleted meanwhile must not cost the others their receipts.
    users = set(
        get_user_model()
        ._default_manager.using(using)
        .filter(pk__in={receipt.subscriber for receipt in wanted})
        .values_list("pk", flat=True)
    )
    ReceivedPublication.objects.using(using).bulk_create(
        [
            ReceivedPublication(
                channel_id=channels[receipt.channel],
                subscriber_id=receipt.subscriber,
                publication_type=kinds.get_for_model(
                    apps.get_model(receipt.model), for_concrete_model=True
                ),
                publication_id=receipt.pk,
            )
            for receipt in wanted
            if receipt.channel in channels and receipt.subscriber in users
        ],
        ignore_conflicts=True,
    )
