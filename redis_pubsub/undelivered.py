"""What was not delivered: rows without a receipt of an active subscriber.

A receipt is a row's, not a version's: a row that was delivered once and changed since is
delivered. Rows older than the horizon of ``pubsub_prune`` are owed to nobody any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models import Exists, F, Func, OuterRef, Value
from django.db.models.functions import Cast, Concat, Substr

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.auth.models import AbstractBaseUser

    from .models import Channel, PublishableModel

CHUNK = 1_000


class Undelivered:
    """Pairs of subscriber and instance without a receipt. Lazy; iterates in chunks.

    A loop holds a chunk in memory. ``len`` and ``list`` hold all pairs and remember them,
    as a queryset does; ``count`` only counts.

    Args:
        rows: Rows of a `PublishableModel`.
        subscriptions: Further conditions on the subscriptions, as a filter's.
    """

    def __init__(
        self, rows: models.QuerySet[Any], subscriptions: dict[str, Any] | None = None
    ) -> None:
        self._rows = rows
        self._subscriptions = subscriptions or {}
        self._all: list[tuple[AbstractBaseUser, PublishableModel]] | None = None

    def for_user(self, user: Any) -> Undelivered:
        """Only what this user, or the one with this primary key, did not get."""
        return Undelivered(self._rows, self._subscriptions | {"subscriber": user})

    def on_channel(self, channel: Channel) -> Undelivered:
        """Only what was published on this channel."""
        return Undelivered(self._rows.filter(channel=channel), self._subscriptions)

    def since(self, field: str, moment: datetime) -> Undelivered:
        """Only rows whose ``field`` is at or after a moment."""
        return self.filter(**{f"{field}__gte": moment})

    def filter(self, *args: Any, **kwargs: Any) -> Undelivered:
        """Only rows that match, as a queryset's ``filter``."""
        return Undelivered(self._rows.filter(*args, **kwargs), self._subscriptions)

    def count(self) -> int:
        """How many there are, counted by the database."""
        return self._pairs().count()

    def oldest(self, most: int) -> list[tuple[datetime | None, Any, str]]:
        """When, key and channel's name of the first rows, in their order.

        The order is that of ``TRACK_DELIVERY_BY``, then of the primary key.
        """
        pairs, when = self._pairs(), self._rows.model.TRACK_DELIVERY_BY
        moment: Any = F(when) if when else Value(None, models.DateTimeField())
        order = [moment.asc(nulls_first=True), "pk"] if when else ["pk"]
        keys = pairs.order_by(*order).annotate(undelivered_since=moment)
        return list(keys.values_list("undelivered_since", "pk", "channel__name")[:most])

    def __iter__(self) -> Iterator[tuple[AbstractBaseUser, PublishableModel]]:
        # Python's list() asks for the length between calling this and taking the first
        # pair, so it is known by then and nothing is read twice.
        yield from self._read() if self._all is None else self._all

    def __len__(self) -> int:
        if self._all is None:
            self._all = list(self._read())
        return len(self._all)

    def __contains__(self, pair: object) -> bool:
        return any(pair == mine for mine in self)

    def __bool__(self) -> bool:
        return self._pairs().exists() if self._all is None else bool(self._all)

    def _read(self) -> Iterator[tuple[AbstractBaseUser, PublishableModel]]:
        pairs = self._pairs()
        users = get_user_model()._default_manager.using(self._rows.db)
        by_pk = {
            user.pk: user
            for user in users.filter(
                pk__in=pairs.order_by().values("undelivered_to").distinct()
            )
        }
        for row in pairs.iterator(chunk_size=CHUNK):
            user = by_pk.get(row.undelivered_to)
            if user is not None:
                yield user, row

    def _pairs(self) -> models.QuerySet[Any]:
        receipts = apps.get_model("redis_pubsub", "ReceivedPublication")
        model = self._rows.model
        # A row with an inherited table was published, and received, as what it is.
        types = ContentType.objects.db_manager(self._rows.db).get_for_models(
            model, *inherited_tables(model).values()
        )
        received = receipts._default_manager.filter(
            channel=OuterRef("channel_id"),
            subscriber=OuterRef("undelivered_to"),
            publication_type__in=[kind.pk for kind in types.values()],
            publication_id=_key_as_text(model, self._rows.db),
        )
        conditions = {
            f"channel__subscribers__{name}": value
            for name, value in self._subscriptions.items()
        }
        pairs: models.QuerySet[Any] = (
            self._rows.filter(channel__subscribers__active=True, **conditions)
            .annotate(undelivered_to=F("channel__subscribers__subscriber_id"))
            .filter(~Exists(received))
        )
        if model.TRACK_DELIVERY_BY:
            horizons = apps.get_model("redis_pubsub", "ReceiptHorizon")._default_manager
            beyond = horizons.filter(
                publication_type=types[model],
                pruned_before__gt=OuterRef(model.TRACK_DELIVERY_BY),
            )
            pairs = pairs.filter(~Exists(beyond))
        return pairs


def inherited_tables(model: type[models.Model]) -> dict[str, type[models.Model]]:
    """Models whose rows have a row of this model as their first half, by the name of
    the relation that leads there."""
    found: dict[str, type[models.Model]] = {}
    model = model._meta.concrete_model or model
    for relation in model._meta.related_objects:
        field, child = relation.field, relation.related_model
        if (
            field.remote_field.parent_link
            and field.primary_key
            and isinstance(child, type)
            and issubclass(child, model)
        ):
            found[relation.name] = child
            for name, grandchild in inherited_tables(child).items():
                found[f"{relation.name}__{name}"] = grandchild
    return found


def _key_as_text(model: type[models.Model], using: str) -> Any:
    """The outer row's primary key as `ReceivedPublication.publication_id` keeps it."""
    connection = connections[using]
    text: Any = Cast(OuterRef("pk"), models.CharField(max_length=255))
    pk: Any = model._meta.pk
    while pk.is_relation:
        pk = pk.target_field
    # The column's own type, since a database with uuids may have older columns without.
    if isinstance(pk, models.UUIDField) and pk.db_type(connection) != "uuid":
        # Stored without dashes there; a receipt has them, as str(uuid) does.
        parts = [Substr(text, begin, size) for begin, size in _UUID_GROUPS]
        dashed: list[Any] = [parts[0]]
        for part in parts[1:]:
            dashed += [Value("-"), part]
        text = Concat(*dashed, output_field=models.CharField(max_length=36))
    if connection.vendor == "mysql":
        # It refuses to compare two texts whose collations differ, and a cast's is the
        # connection's; this is the column's.
        return Func(text, template=_AS_MYSQL_KEEPS_IT, output_field=models.CharField())
    return text


_AS_MYSQL_KEEPS_IT = "CONVERT(%(expressions)s USING utf8mb4) COLLATE utf8mb4_bin"
_UUID_GROUPS = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
