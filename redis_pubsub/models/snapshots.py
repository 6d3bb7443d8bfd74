"""A row as it was published, kept on the server: all its fields, and its many-to-many
relations as keys.

What audiences see is rendered from it, whenever that is: not from the row as it has become,
and not from a deleted one's absence.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from django.db import models
from django.utils.functional import Promise

from .. import codec
from .publishable import from_payload, serialize

M = TypeVar("M", bound=models.Model)


def snapshot_of(instance: models.Model) -> str:
    """Django's JSON form of all of a row's fields."""
    return serialize(instance, None)


def encode_document(document: Any) -> bytes:
    """What a serializer made, as one line of JSON.

    Args:
        document: JSON text, or values that encode as JSON; lazy translations too.

    Raises:
        TypeError: Something inside cannot be encoded.
        InvalidPayload: It is no JSON document.
    """
    if isinstance(document, str | bytes):
        return codec.one_line(document)
    return codec.encode(document, encode_lazy)


def encode_lazy(value: Any) -> Any:
    """For `codec.encode`: what it does not know by itself."""
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, models.Model):
        raise TypeError(
            f"a {value._meta.label} inside a payload: publish the instance itself, or "
            "put the fields you want into a dict"
        )
    raise TypeError(f"a {type(value).__name__} is not JSON-able")


def restored(model: type[M], payload: Any) -> M | None:
    """The instance of a snapshot; ``None`` if it is no whole one of this model.

    Its many-to-many relations are those that were published: ``instance.tags.all()``
    gives rows of which only the key is known, and reads the rest when it is asked for.
    """
    instance = from_payload(model, payload)
    if instance is None:
        return None
    for parent in model._meta.get_parent_list():
        # The keys of inherited tables are the row's own, and not sent twice.
        key = parent._meta.pk
        instance.__dict__.setdefault(key.attname, instance.pk)
    values = payload[0]["fields"]
    known = {}
    for field in model._meta.many_to_many:
        keys = values.get(field.name)
        if isinstance(keys, list):
            known[field.name] = _rows(field.related_model, keys)
    if known:
        instance._prefetched_objects_cache = known  # type: ignore[attr-defined]
    return instance


def _rows(model: type[models.Model], keys: list[Any]) -> models.QuerySet[Any]:
    key = model._meta.pk
    assert key is not None, "a concrete model has a key"
    target: Any = key
    while target.is_relation:
        target = target.target_field
    rows = model._base_manager.all()
    found = [model.from_db(None, [key.attname], [target.to_python(each)]) for each in keys]
    rows._result_cache = found
    rows._prefetch_done = True  # type: ignore[attr-defined]
    return rows


def twin(instance: M) -> M:
    """A copy whose fields and state may be changed without others seeing it (shallow)."""
    made = type(instance).__new__(type(instance))
    made.__dict__.update(instance.__dict__)
    made._state = copy.copy(instance._state)
    made._state.fields_cache = instance._state.fields_cache.copy()
    return made
