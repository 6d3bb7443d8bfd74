"""How long receipts are kept, and which may go.

A receipt says that a row is not owed any more, so deleting one must not make the row owed
again. It may go where its row is gone, or older than the model's horizon, which is moved
forward first: beyond it nothing is owed to anybody. Nothing else goes, however old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from .models import PublishableModel, ReceiptHorizon, ReceivedPublication

CHUNK = 1_000


class Pruned(NamedTuple):
    """What became of one model's old receipts.

    Attributes:
        label: The model's; of a model that is gone, what its content type says.
        deleted: How many went, or would go.
        kept: How many stayed, since their rows are there.
        is_dated: Whether the model has a ``TRACK_DELIVERY_BY``, without which only the
            receipts of deleted rows may go.
    """

    label: str
    deleted: int
    kept: int
    is_dated: bool


def prune(before: datetime, *, using: str, is_dry: bool = False) -> Iterator[Pruned]:
    """Delete the receipts of before a moment that may go, 1,000 at a time.

    Each statement is its own transaction, so that a long run locks nothing for long and
    may be interrupted.

    Args:
        before: Receipts from this moment on stay.
        using: Which database.
        is_dry: Only count.

    Returns:
        An iterator of one result for each model that has receipts.
    """
    if not is_dry:
        _move_horizons(before, using)
    receipts = ReceivedPublication.objects.using(using)
    old = receipts.filter(datetime_received__lt=before)
    kinds = ContentType.objects.db_manager(using)
    for kind_id in old.order_by().values_list("publication_type", flat=True).distinct():
        kind = None if kind_id is None else kinds.get_for_id(kind_id)
        model = None if kind is None else kind.model_class()
        deleted = kept = 0
        for page in _pages(old.filter(publication_type=kind_id)):
            owed = _owed(model, {key for _, key in page}, before, using)
            gone = [pk for pk, key in page if key not in owed]
            if not is_dry:
                receipts.filter(pk__in=gone).delete()
            deleted += len(gone)
            kept += len(page) - len(gone)
        yield Pruned(_label(kind, model), deleted, kept, _moment_of(model) is not None)


def _move_horizons(before: datetime, using: str) -> None:
    """Let nothing of before the moment be owed, before its receipts go."""
    horizons = ReceiptHorizon.objects.using(using)
    for model in apps.get_models():
        if issubclass(model, PublishableModel) and _moment_of(model):
            kind = ContentType.objects.db_manager(using).get_for_model(model)
            horizons.get_or_create(
                publication_type=kind, defaults={"pruned_before": before}
            )
            horizons.filter(publication_type=kind, pruned_before__lt=before).update(
                pruned_before=before
            )


def _pages(receipts: models.QuerySet[Any]) -> Iterator[list[tuple[int, str | None]]]:
    last = 0
    while True:
        rows = receipts.filter(pk__gt=last).order_by("pk")
        page = list(rows.values_list("pk", "publication_id")[:CHUNK])
        if not page:
            return
        yield page
        last = page[-1][0]


def _owed(
    model: type[models.Model] | None,
    keys: Collection[str | None],
    before: datetime,
    using: str,
) -> set[str]:
    """Those of the keys whose rows would be owed again without their receipts."""
    if model is None or not issubclass(model, PublishableModel):
        return set()
    field: Any = model._meta.pk
    while field.is_relation:
        field = field.target_field
    pks = []
    for key in keys:
        try:
            pks.append(field.to_python(key))
        except ValidationError:
            continue  # Written when the model had keys of another kind.
    rows = model._base_manager.using(using).filter(pk__in=pks)
    moment = _moment_of(model)
    if moment is not None:
        rows = rows.filter(
            Q(**{f"{moment}__gte": before}) | Q(**{f"{moment}__isnull": True})
        )
    return {str(pk) for pk in rows.order_by().values_list("pk", flat=True)}


def _moment_of(model: type[models.Model] | None) -> str | None:
    return getattr(model, "TRACK_DELIVERY_BY", None)


def _label(kind: ContentType | None, model: type[models.Model] | None) -> str:
    if model is not None:
        return model._meta.label
    return "no model" if kind is None else f"{kind.app_label}.{kind.model} (gone)"
