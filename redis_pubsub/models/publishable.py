"""The base class of models that publish themselves."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from asgiref.sync import sync_to_async
from django.core import serializers
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, router, transaction
from django.utils.module_loading import import_string

from ..conf import get_config
from ..hooks import hooks
from ..messages import UPDATE, Message
from ..querysets import PublishableModelManager
from .channels import Channel, _database_of
from .plans import plain_json

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


M = TypeVar("M", bound=models.Model)


class PublishableModel(models.Model):
    """A model whose saves are heard by everybody subscribed to its channel.

    Attributes:
        PUBLISH_ON_CREATE: Publish when a row is created.
        PUBLISH_ON_UPDATE: Publish when a row is saved again, or its many-to-many
            relations change.
        PUBLISH_ON_DELETE: Publish when a row is deleted.
        PUBLISH_FIELDS: Names of the fields to send; ``None`` for all.
        PUBLISH_SERIALIZER: A REST framework serializer class, or its dotted path, that
            renders the payload instead of Django's serializer.
        PUBLISH_VERSION: Name of a field that only grows (an integer or a datetime):
            a message older than the row's last one is not sent.
        PUBLISH_OUTBOX: Whether messages are kept in the database until Redis has them;
            ``None`` for ``REDIS_PUBSUB["outbox"]``.
        TRACK_DELIVERY: Write a `ReceivedPublication` for each subscriber reached.
        TRACK_DELIVERY_BY: Name of a date-time field, set once, that says when the row
            was made: the order in which missed rows are caught up with, and what
            ``pubsub_prune`` goes by.
    """

    PUBLISH_ON_CREATE: ClassVar[bool] = False
    PUBLISH_ON_UPDATE: ClassVar[bool] = False
    PUBLISH_ON_DELETE: ClassVar[bool] = False
    PUBLISH_FIELDS: ClassVar[Sequence[str] | None] = None
    PUBLISH_SERIALIZER: ClassVar[type[Any] | str | None] = None
    PUBLISH_VERSION: ClassVar[str | None] = None
    PUBLISH_OUTBOX: ClassVar[bool | None] = None
    TRACK_DELIVERY: ClassVar[bool] = False
    TRACK_DELIVERY_BY: ClassVar[str | None] = None

    channel = models.ForeignKey(
        Channel,
        on_delete=models.CASCADE,
        related_name="publishable_%(app_label)s_%(class)ss",
    )

    objects = PublishableModelManager()

    class Meta:
        abstract = True

    publication: Message | None = None
    """The message this instance was made from, in a callback."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row, on a channel of its own if it was given none."""
        self.set_channel(kwargs.get("using"))
        with self._together_with_message(kwargs.get("using")):
            super().save(*args, **kwargs)

    def _together_with_message(self, using: str | None) -> AbstractContextManager[Any]:
        """A transaction for the row and its message in the outbox, if none is open."""
        is_heard = self.PUBLISH_ON_CREATE or self.PUBLISH_ON_UPDATE
        if not (is_heard and uses_outbox(type(self))):
            return nullcontext()
        using = using or router.db_for_write(type(self), instance=self)
        is_open = transaction.get_connection(using).in_atomic_block
        return nullcontext() if is_open else transaction.atomic(using=using)

    def set_channel(self, using: str | None = None) -> None:
        """Fill ``channel`` from `get_channel` where it is empty.

        Args:
            using: The database that the row is saved to.
        """
        if self.channel_id is None:
            # As Django does in a moment: it tells `get_channel` where to look.
            self._state.db = using or self._state.db
            self.channel = self.get_channel()

    def get_channel(self) -> Channel:
        """The channel of a row that was given none: made from `get_channel_name`.

        Override it to publish on another object's channel
        (``return self.correspondence.channel``).
        """
        rows = Channel.objects.using(self._state.db)
        return rows.get_or_create(name=self.get_channel_name())[0]

    def get_channel_name(self) -> str:
        """A name for a channel of this row's own: its label and something unguessable
        (the primary key where it is known before the row is saved)."""
        return f"{self._meta.label_lower}:{self.pk or uuid.uuid4().hex}"

    def subscribe(self, *subscribers: AbstractBaseUser) -> None:
        """Subscribe users to this row's channel, in a constant number of queries."""
        self.channel.subscribe_all(subscribers)

    def publish(self, event: str = UPDATE) -> None:
        """Publish this instance as it is now, after the transaction commits.

        Raises:
            RuntimeError: Called on a running event loop; use `apublish`.
        """
        hooks.publish_instance(
            self.channel.name, self, event=event, fields=None, using=_database_of(self)
        )

    async def apublish(self, event: str = UPDATE) -> None:
        """`publish` for coroutines."""
        await sync_to_async(self.publish)(event)

    # -- who sees what ---------------------------------------------------------------------

    @classmethod
    def can_view(cls, user: Any, instance: Self) -> bool:
        """Whether a user may see an instance at all; to others its messages are withheld,
        deletes too.

        Asked when a message is delivered, recovered or read from the history, in a thread
        (it may query), about the row as it was published: once for all users with the same
        `audience_key`. A class that has its own, and no `audience_key`, is asked once for
        each user.

        Args:
            user: An ``AnonymousUser`` for nobody.
            instance: The row as it was published; deleted ones too.
        """
        return True

    @classmethod
    def audience_key(cls, user: Any) -> Hashable:
        """What users have in common who see the same: the payload is rendered once for
        each key, never once for each socket.

        Return all that `can_view` and `serialize_for` depend on, as in
        ``("editor", user.tenant_id)``; ``user.pk`` for everybody his own. By default all
        users are one audience (``None``), or each is his own where `can_view` is
        overridden. It runs in a thread and may query; the answer is kept until the user's
        permissions are looked at anew (`redis_pubsub.refresh`).
        """
        return user.pk if _has_own(cls, "can_view") else None

    @classmethod
    def audience_language(cls, user: Any) -> str | None:
        """The language, as in ``"de"``, in which a user is told; ``None`` for the site's.
        The payload is rendered once for each, with it activated."""
        return None

    def serialize_for(self, audience: Any) -> str | bytes | dict[str, Any] | list[Any]:
        """The payload for one audience; by default what `serialize` says.

        Args:
            audience: What `audience_key` returned. There is no user here: whatever the
                payload depends on has to be in the key.
        """
        return self.serialize()

    def serialize(self) -> str | bytes | dict[str, Any] | list[Any]:
        """The payload: by default Django's JSON form, a list of one
        ``{"model", "pk", "fields"}``.

        Override it to send something else: JSON text, or values that encode as JSON.
        """
        if self.PUBLISH_SERIALIZER is not None:
            serializer = self.PUBLISH_SERIALIZER
            if isinstance(serializer, str):
                serializer = import_string(serializer)
            return serializer(self).data  # type: ignore[no-any-return]
        return serialize(self, self.PUBLISH_FIELDS)

    @classmethod
    def from_publication(cls, publication: Message) -> Self:
        """The instance that a callback gets for a message.

        Made from the payload where that is Django's form: the row as it was published,
        deleted rows too, without a query; fields that were not sent are deferred.
        Otherwise the row as it is now, by one query per process and message.

        Override it to add ``select_related`` or to fetch the row differently; it runs
        in a thread and may query.

        Raises:
            cls.DoesNotExist: It had to be fetched and is gone.
        """
        instance = from_payload(cls, publication.payload)
        if instance is None:
            return cls._base_manager.get(pk=publication.pk)
        return instance


AUDIENCE_HOOKS = ("can_view", "audience_key", "audience_language", "serialize_for")


def _has_own(model: type[models.Model], name: str) -> bool:
    own = getattr(getattr(model, name, None), "__func__", getattr(model, name, None))
    base = getattr(PublishableModel, name)
    return own is not None and own is not getattr(base, "__func__", base)


def has_audiences(model: type[models.Model]) -> bool:
    """Whether a model says that not everybody sees the same of it."""
    return issubclass(model, PublishableModel) and any(
        _has_own(model, name) for name in AUDIENCE_HOOKS
    )


def renders_for_audiences(model: type[models.Model]) -> bool:
    """Whether a model renders its payload itself for each audience."""
    return _has_own(model, "serialize_for")


def uses_outbox(model: type[models.Model]) -> bool:
    """Whether a model's messages are kept in the database until Redis has them."""
    own = getattr(model, "PUBLISH_OUTBOX", None)
    return get_config().outbox if own is None else bool(own)


class _Encoder(DjangoJSONEncoder):
    """Django's, without cutting times to milliseconds: an instance made of the payload
    may be saved again."""

    def default(self, o: Any) -> Any:
        if isinstance(o, datetime.datetime | datetime.time):
            return o.isoformat()
        return super().default(o)


def serialize(instance: models.Model, fields: Iterable[str] | None) -> str:
    """Django's JSON form of one row: a list with one object. A row with an inherited
    table has its parents' fields too."""
    names = None if fields is None else list(fields)
    plain = plain_json(instance, names)
    if plain is not None:
        return plain.decode()
    parents = instance._meta.get_parent_list()
    if not parents:
        return str(serializers.serialize("json", [instance], fields=names, cls=_Encoder))
    [document] = serializers.serialize("python", [instance], fields=names)
    for parent in parents:
        own = {
            f.attname: getattr(instance, f.attname) for f in parent._meta.concrete_fields
        }
        [inherited] = serializers.serialize(
            "python", [_parent_of(instance, parent, own)], fields=names
        )
        document["fields"] = inherited["fields"] | document["fields"]
    return json.dumps([document], cls=_Encoder, ensure_ascii=False)


def _parent_of(
    instance: models.Model, parent: type[models.Model], own: dict[str, Any]
) -> models.Model:
    """A row's part in an inherited table, with what is known of its relations."""
    part = parent(**own)
    known = getattr(instance, "_prefetched_objects_cache", None)
    if known is not None:
        part._prefetched_objects_cache = known  # type: ignore[attr-defined]
    return part


def from_payload(model: type[M], payload: Any) -> M | None:
    """The instance in a payload of Django's form, or ``None`` if it has another.

    Nothing is trusted: only fields of the model's own table are taken, each through its
    ``to_python``.
    """
    match payload:
        case [{"model": str(label), "pk": pk, "fields": dict(values)}]:
            pass
        case _:
            return None
    if label != model._meta.label_lower:
        return None
    try:
        sent = _values(model, pk, values)
    except (ValidationError, TypeError, ValueError, OverflowError):
        # Django's outer form with other contents: natural keys, formatted dates.
        return None
    # from_db() wants the fields' own order, and defers those that are missing.
    names = [
        field.attname for field in model._meta.concrete_fields if field.attname in sent
    ]
    return model.from_db(None, names, [sent[name] for name in names])


def _values(model: type[models.Model], pk: Any, values: dict[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        if field.primary_key:
            sent[field.attname] = field.to_python(pk)
        elif field.name in values:
            target: Any = field
            while target.is_relation:
                target = target.target_field
            sent[field.attname] = target.to_python(values[field.name])
    return sent
