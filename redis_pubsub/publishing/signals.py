"""Django's signals to messages: what is saved, deleted or related anew is published.

Receivers hang on each concrete subclass of `PublishableModel`, proxies and classes that
are declared late included, so that other models' saves cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable
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
from ..hooks import hooks, is_muted
from ..messages import CREATE, DELETE, UPDATE
from ..models import PublishableModel, Subscription
from ..models.publishable import uses_outbox
from . import transactions
from .control import announce_subscribers
from .drafts import draft_of_instance, has_expressions, may_query
from .publisher import publisher
from .savepoints import SavepointIfQueried

logger = logging.getLogger("redis_pubsub.publishing")

_M2M_ACTIONS = ("post_add", "post_remove", "post_clear")
_pending_delete = "_redis_pubsub_channel"
_pending_clear = "_redis_pubsub_cleared"


def connect() -> None:
    """Connect every publishable model, now and later; called by ``apps.ready()``."""
    hooks.publish_saved = _publish_all
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
        try:
            with _unpoisoned(using, True):
                setattr(instance, _pending_delete, instance.channel.name)
        except Exception:
            publisher.metrics.count("publish_failed")
            logger.exception(
                "%s %s has no channel to tell", instance._meta.label, instance.pk
            )


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
    sender: type[models.Model],
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
    field = _field_through(owner, sender)
    if field is None:
        # Not a field's: some package sends the signal for relations of its own.
        return
    # A symmetrical relation changes the rows on both sides.
    has_others = reverse or field.remote_field.symmetrical
    if action == "pre_clear" and has_others:
        # Afterwards nobody knows any more which rows these were.
        others = sender._base_manager.using(using).filter(
            **{field.m2m_reverse_field_name(): instance.pk}
        )
        column = f"{field.m2m_field_name()}_id"
        setattr(instance, _pending_clear, list(others.values_list(column, flat=True)))
    elif action in _M2M_ACTIONS:
        rows = [] if reverse else [instance]
        if has_others:
            cleared = instance.__dict__.pop(_pending_clear, ())
            keys = cleared if pk_set is None else pk_set
            rows += owner._base_manager.using(using).filter(pk__in=keys)
        for row in rows:
            _publish(row, UPDATE, using, replaces=(row._meta.label, row.pk))  # type: ignore[arg-type]


def _field_through(owner: type[models.Model], through: type[models.Model]) -> Any:
    """The many-to-many field of a model that uses a table, if one does."""
    fields = owner._meta.many_to_many
    return next((each for each in fields if each.remote_field.through is through), None)


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
    """Publish; whatever goes wrong with the message is logged, and the write goes on.

    Raises:
        DatabaseError: The message could not be written to the outbox; the write must not
            be committed without it.
    """
    try:
        is_querying = may_query(type(instance)) or has_expressions(instance)
        with _unpoisoned(using, is_querying):
            draft = draft_of_instance(
                get_config(), channel or instance.channel.name, instance, event=event
            )
    except Exception:
        publisher.metrics.count("publish_failed")
        logger.exception("%s %s was not published", instance._meta.label, instance.pk)
        return
    outbox = uses_outbox(type(instance))
    transactions.after_commit(draft, using, replaces=replaces, waits=False, outbox=outbox)


def _publish_all(rows: Iterable[PublishableModel], event: str, using: str) -> None:
    """`_publish` for many rows, with one savepoint for all of them."""
    rows = list(rows)
    try:
        with _unpoisoned(using, any(may_query(type(row)) for row in rows[:1])):
            config = get_config()
            drafts = [
                draft_of_instance(config, row.channel.name, row, event=event)
                for row in rows
            ]
    except Exception:
        # One by one, so that only those that cannot be published are missing.
        for row in rows:
            _publish(row, event, using)
        return
    if drafts:
        outbox = uses_outbox(type(rows[0]))
        transactions.all_after_commit(drafts, using, waits=False, outbox=outbox)


def _unpoisoned(using: str, is_needed: bool) -> Any:
    """A savepoint around code that may query: its error must not end the transaction."""
    is_open = transaction.get_connection(using).in_atomic_block
    return SavepointIfQueried(using) if is_needed and is_open else nullcontext()
