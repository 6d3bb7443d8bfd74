"""Django's signals to messages: what is saved, deleted or related anew is published.

Receivers hang on each concrete subclass of `PublishableModel`, proxies and classes that
are declared late included, so that other models' saves cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from contextlib import nullcontext
from typing import Any

from django.apps import apps
from django.db import models, transaction
from django.db.models.signals import (
    class_prepared,
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
)

from ..conf import get_config
from ..hooks import is_muted
from ..messages import CREATE, DELETE, UPDATE
from ..models import PublishableModel, Subscription
from . import transactions
from .control import announce_subscribers
from .drafts import draft_of_instance, may_query
from .publisher import publisher

logger = logging.getLogger("redis_pubsub.publishing")

_M2M_ACTIONS = ("post_add", "post_remove", "post_clear")
_pending_delete = "_redis_pubsub_channel"
_pending_clear = "_redis_pubsub_cleared"


def connect() -> None:
    """Connect every publishable model, now and later; called by ``apps.ready()``."""
    class_prepared.connect(_connect_model, dispatch_uid="redis_pubsub")
    for model in apps.get_models(include_auto_created=True):
        _connect_model(model)
    for signal in (post_save, post_delete):
        signal.connect(
            subscription_changed, sender=Subscription, dispatch_uid="redis_pubsub"
        )


def _connect_model(sender: type[models.Model], **kwargs: Any) -> None:
    if not issubclass(sender, PublishableModel) or sender._meta.abstract:
        return
    uid = "redis_pubsub"
    post_save.connect(subscribable_changed, sender=sender, dispatch_uid=uid)
    pre_delete.connect(_keep_channel, sender=sender, dispatch_uid=uid)
    post_delete.connect(_deleted, sender=sender, dispatch_uid=uid)
    # One receiver per relation: its through model is known once all models are loaded.
    m2m_changed.connect(_relations_changed, dispatch_uid=uid)


def subscribable_changed(
    sender: type[PublishableModel],
    instance: PublishableModel,
    created: bool,
    raw: bool = False,
    using: str = "default",
    **kwargs: Any,
) -> None:
    """Publish a saved row if its model's flags say so; fixtures are silent."""
    if raw or is_muted():
        return
    if created and sender.PUBLISH_ON_CREATE:
        _publish(instance, CREATE, using)
    elif not created and sender.PUBLISH_ON_UPDATE:
        _publish(instance, UPDATE, using)


def _keep_channel(instance: PublishableModel, using: str, **kwargs: Any) -> None:
    """Look the channel up while it is certainly there: it may be deleted along."""
    if type(instance).PUBLISH_ON_DELETE and not is_muted():
        with _unpoisoned(using, True):
            setattr(instance, _pending_delete, instance.channel.name)


def _deleted(
    sender: type[PublishableModel],
    instance: PublishableModel,
    using: str,
    origin: Any = None,
    **kwargs: Any,
) -> None:
    if not sender.PUBLISH_ON_DELETE or is_muted() or _is_parent_row(sender, origin):
        return
    _publish(instance, DELETE, using, channel=getattr(instance, _pending_delete, None))


def _is_parent_row(sender: type[models.Model], origin: Any) -> bool:
    """Whether this is the parent's half of a row with an inherited table."""
    deleted = getattr(origin, "model", None) or type(origin)
    return (
        deleted is not sender and sender in deleted._meta.get_parent_list()
        if (isinstance(deleted, type) and issubclass(deleted, models.Model))
        else False
    )


def _relations_changed(
    instance: models.Model,
    action: str,
    using: str,
    reverse: bool,
    model: type[models.Model],
    pk_set: set[Any] | None,
    **kwargs: Any,
) -> None:
    """Publish the rows whose relations changed, from whichever side they were."""
    owner = model if reverse else type(instance)
    if not issubclass(owner, PublishableModel) or not owner.PUBLISH_ON_UPDATE or is_muted():
        return
    if action == "pre_clear" and reverse:
        # Afterwards nobody knows any more which rows these were.
        relation = {"through": kwargs["sender"], "target": instance}
        setattr(instance, _pending_clear, _related_keys(owner, using=using, **relation))
    elif action in _M2M_ACTIONS:
        if reverse:
            keys = (
                pk_set if pk_set is not None else instance.__dict__.pop(_pending_clear, ())
            )
            rows = list(owner._base_manager.using(using).filter(pk__in=keys))
        else:
            rows = [instance]  # type: ignore[list-item]
        for row in rows:
            _publish(row, UPDATE, using, replaces=(row._meta.label, row.pk))


def _related_keys(
    owner: type[models.Model], *, through: Any, target: models.Model, using: str
) -> list[Any]:
    foreign_keys = [field for field in through._meta.fields if field.remote_field]
    to_target = next(f for f in foreign_keys if isinstance(target, f.remote_field.model))
    to_owner = next(
        f
        for f in foreign_keys
        if f is not to_target and issubclass(owner, f.remote_field.model)
    )
    rows = through._base_manager.using(using).filter(**{to_target.name: target})
    return list(rows.values_list(to_owner.attname, flat=True))


def subscription_changed(instance: Subscription, using: str, **kwargs: Any) -> None:
    """Tell every process that a user's subscriptions are not what they were."""
    if not kwargs.get("raw"):
        announce_subscribers([instance.subscriber_id], using=using)


def _publish(
    instance: PublishableModel,
    event: str,
    using: str,
    *,
    channel: str | None = None,
    replaces: Hashable = None,
) -> None:
    """Publish; whatever goes wrong is logged, and the write goes on."""
    try:
        with _unpoisoned(using, may_query(type(instance))):
            draft = draft_of_instance(
                get_config(), channel or instance.channel.name, instance, event=event
            )
        transactions.after_commit(draft, using, replaces=replaces)
    except Exception:
        publisher.metrics.count("publish_failed")
        logger.exception("%s %s was not published", instance._meta.label, instance.pk)


def _unpoisoned(using: str, is_needed: bool) -> Any:
    """A savepoint around code that may query: its error must not end the transaction."""
    is_open = transaction.get_connection(using).in_atomic_block
    return transaction.atomic(using=using) if is_needed and is_open else nullcontext()
