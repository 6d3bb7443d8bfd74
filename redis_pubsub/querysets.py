"""Bulk operations that publish, and what was not delivered.

``bulk_create``, ``bulk_update``, ``update`` and ``delete`` publish what they change if the
model's flags say so; ``publish=False`` opts out. They are the only ones: raw SQL and
database triggers are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from typing import Any, TypeVar

from django.db import NotSupportedError, connections, models, transaction

from .hooks import hooks, is_muted, muted
from .messages import CREATE, UPDATE
from .undelivered import Undelivered

CHUNK = 1_000

M = TypeVar("M", bound=models.Model)


class SubscriptionQuerySet(models.QuerySet[M]):
    """Subscriptions; their bulk changes reach live sockets too."""

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        created = super().bulk_create(objs, *args, **kwargs)
        self._announce({row.subscriber_id for row in created})  # type: ignore[attr-defined]
        return created

    def bulk_update(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> int:
        objs = list(objs)
        changed = super().bulk_update(objs, *args, **kwargs)
        self._announce({row.subscriber_id for row in objs})  # type: ignore[attr-defined]
        return changed

    def update(self, **kwargs: Any) -> int:
        self._for_write = True
        with transaction.atomic(using=self.db):
            subscribers = set(self.order_by().values_list("subscriber_id", flat=True))
            changed = super().update(**kwargs)
            self._announce(subscribers)
        return changed

    def _announce(self, subscribers: Collection[Any]) -> None:
        if subscribers:
            hooks.announce_subscribers(subscribers, using=self.db)


class SubscriptionRows(models.Manager.from_queryset(SubscriptionQuerySet)):  # type: ignore[misc]
    """Every subscription comes with its channel: readers need the name, and a handler
    on the event loop could not fetch it."""

    def get_queryset(self) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = super().get_queryset().select_related("channel")
        return rows


class OutboxQuerySet(models.QuerySet[M]):
    """Messages that wait for Redis."""

    def retry(self) -> int:
        """Take parked messages up again; they may be behind later ones of their channel.

        Returns:
            How many.
        """
        return self.filter(parked=True).update(parked=False, attempts=0, failed_at=None)


class PublishableQuerySet(models.QuerySet[M]):
    """Rows of a `PublishableModel`."""

    def bulk_create(
        self, objs: Iterable[M], *args: Any, publish: bool = True, **kwargs: Any
    ) -> list[M]:
        """Django's ``bulk_create``; publishes each row if ``PUBLISH_ON_CREATE``.

        Raises:
            NotSupportedError: Which rows there are will not be known (the database returns
                no keys, or ``ignore_conflicts``), so they cannot be published.
        """
        self._for_write = True
        rows = list(objs)
        is_heard = publish and self._flag("PUBLISH_ON_CREATE")
        if is_heard:
            self._refuse_unknown_keys(rows, bool(kwargs.get("ignore_conflicts")))
        with transaction.atomic(using=self.db):
            for row in rows:
                row.set_channel(self.db)  # type: ignore[attr-defined]
            created = super().bulk_create(rows, *args, **kwargs)
            if is_heard:
                self._publish(created, CREATE)
        return created

    def bulk_update(
        self, objs: Iterable[M], *args: Any, publish: bool = True, **kwargs: Any
    ) -> int:
        """Django's ``bulk_update``; publishes each row if ``PUBLISH_ON_UPDATE``."""
        self._for_write = True
        rows = list(objs)
        with transaction.atomic(using=self.db):
            with muted():
                changed = super().bulk_update(rows, *args, **kwargs)
            if publish and self._flag("PUBLISH_ON_UPDATE"):
                self._publish(rows, UPDATE)
        return changed

    def update(self, *, publish: bool = True, **kwargs: Any) -> int:
        """Django's ``update``; publishes each changed row if ``PUBLISH_ON_UPDATE``.

        Publishing costs one read of the keys and one of the rows per 1,000.
        """
        if not (publish and self._flag("PUBLISH_ON_UPDATE")) or is_muted():
            return super().update(**kwargs)
        # Before `self.db` is asked for: the keys are not a replica's to say.
        self._for_write = True
        with transaction.atomic(using=self.db):
            pks = list(self.order_by().values_list("pk", flat=True))
            changed = super().update(**kwargs)
            relations = [field.name for field in self.model._meta.many_to_many]
            rows = self.model._base_manager.using(self.db).select_related("channel")
            rows = rows.prefetch_related(*relations)
            for begin in range(0, len(pks), CHUNK):
                self._publish(rows.filter(pk__in=pks[begin : begin + CHUNK]), UPDATE)
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self, *, publish: bool = True) -> tuple[int, dict[str, int]]:
        """Django's ``delete``; each row is published if ``PUBLISH_ON_DELETE``."""
        with nullcontext() if publish else muted():
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def get_undelivered(self) -> Undelivered:
        """Which of these rows have not reached which of their active subscribers.

        Returns:
            An iterable of ``(subscriber, instance)``, in two queries however many
            there are; narrow it with ``for_user``, ``on_channel`` and ``filter``.
        """
        return Undelivered(self)

    def _flag(self, name: str) -> bool:
        return bool(getattr(self.model, name, False))

    def _publish(self, rows: Iterable[M], event: str) -> None:
        hooks.publish_saved(rows, event, self.db)

    def _refuse_unknown_keys(self, rows: list[M], ignores_conflicts: bool) -> None:
        can_return = connections[self.db].features.can_return_rows_from_bulk_insert
        if rows and ignores_conflicts:
            raise NotSupportedError(
                "with ignore_conflicts nobody says which of these rows were written, so "
                "they cannot be published: pass publish=False, or save() them one by one"
            )
        if not can_return and any(row.pk is None for row in rows):
            raise NotSupportedError(
                "the keys of these rows will not be known, so they cannot be published: "
                "pass publish=False, or save() them one by one"
            )


PublishableModelManager: Callable[[], models.Manager[Any]] = models.Manager.from_queryset(
    PublishableQuerySet, class_name="PublishableModelManager"
)
