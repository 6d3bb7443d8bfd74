"""What a callback gets for a message: made once per process, copied for each.

The label in a message is not trusted: only publishable models, and those that
``publishable_models`` lists, become instances; everything else stays data.
"""

from __future__ import annotations

import copy
import logging
import threading
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model

from ..audiences import published_model
from ..messages import Message
from ..models import PublishableModel
from ..models.publishable import from_payload
from ..models.snapshots import restored, twin

if TYPE_CHECKING:
    from ..engine import Engine

logger = logging.getLogger("redis_pubsub.readers")

_UNSET = object()
UNREADABLE = object()
"""The value of a message of which none could be made."""


class SharedValue:
    """A message's value, for all readers of this process."""

    __slots__ = ("_lock", "_value", "message", "model")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.model: type[Model] | None = None
        self._value: Any = _UNSET
        self._lock = threading.Lock()

    @property
    def is_built(self) -> bool:
        return self._value is not _UNSET

    def build(self, engine: Engine) -> Any:
        """A copy for one callback, or `UNREADABLE`. The first call may query, so make it
        in a database thread."""
        if self._value is _UNSET:
            with self._lock:
                if self._value is _UNSET:
                    self._value = self._made(engine)
        return own_copy(self._value)

    async def get(self, engine: Engine) -> Any:
        """`build` for coroutines; one thread hop per message and process."""
        if self._value is _UNSET:
            return await engine.orm.run(self.build, engine)
        return own_copy(self._value)

    def _made(self, engine: Engine) -> Any:
        try:
            return self._make(engine)
        except Exception:
            # Once for the message, not once for each of its readers.
            engine.metrics.count("unreadable_messages")
            logger.exception("nothing could be made of %r; it is skipped", self.message)
            return UNREADABLE

    def _make(self, engine: Engine) -> Any:
        message = self.message
        self.model = model = model_of(message, engine)
        if model is None:
            return message.payload
        try:
            if issubclass(model, PublishableModel):
                # Of what an audience sees: the row as it was published, not the view.
                source = message.source
                told = message if source is None else source.opened()
                instance: Any = model.from_publication(told)
            elif message.source is not None:
                instance = restored(model, message.source.opened().payload)
            else:
                instance = from_payload(model, message.payload)
                if instance is None or instance.get_deferred_fields():
                    instance = model._default_manager.get(pk=message.pk)
        except ObjectDoesNotExist:
            # The row is gone and the payload is not Django's form: its data still counts.
            engine.metrics.count("rows_gone")
            logger.info("the row of %r is gone; its payload is delivered", message)
            return message.payload
        if not _has_field(model, "publication"):
            instance.publication = message
        return instance


def share(message: Message) -> SharedValue:
    """The message's value holder. Called on the loop only, so there is one."""
    if message.shared is None:
        message.shared = SharedValue(message)
    value: SharedValue = message.shared
    return value


def own_copy(value: Any) -> Any:
    """A copy that a callback may change without others seeing it (shallow)."""
    if value is UNREADABLE:
        return value
    if isinstance(value, Model):
        return twin(value)
    return copy.copy(value)


def model_of(message: Message, engine: Engine) -> type[Model] | None:
    """The model that a message's value becomes an instance of, if any."""
    return published_model(engine.config, engine.metrics, message)


def _has_field(model: type[Model], name: str) -> bool:
    return any(field.name == name for field in model._meta.get_fields())
