"""Django's JSON form of a row, from a plan of its model: no serializer for each row.

The plan knows models of one table whose fields hold plain values. Whatever else there is
(relations to many, inherited tables, a site's own serializer, values that the plan does not
know) is left to Django, whose form is the same.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from django.core.serializers import get_serializer
from django.core.serializers.json import Serializer
from django.db import models

_encode = msgspec.json.Encoder().encode
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1

if TYPE_CHECKING:
    Field: TypeAlias = models.Field[Any, Any]
    Plan: TypeAlias = tuple[Field, tuple[tuple[str, Field], ...]]


class _NotPlain(Exception):
    """A value that only Django's serializer knows how to write."""


def plain_json(instance: models.Model, names: Collection[str] | None) -> bytes | None:
    """One row in Django's JSON form, on one line.

    Args:
        instance: The row.
        names: The fields to send; ``None`` for all.

    Returns:
        ``None`` where only Django's serializer can tell.
    """
    plan = _plan(type(instance), None if names is None else frozenset(names))
    if plan is None:
        return None
    key, fields = plan
    try:
        document = {
            "model": instance._meta.label_lower,
            "pk": _plain(key, instance),
            "fields": {name: _plain(field, instance) for name, field in fields},
        }
        return _encode([document])
    except (_NotPlain, UnicodeError):
        return None


@lru_cache(maxsize=1_024)
def _plan(model: type[models.Model], names: frozenset[str] | None) -> Plan | None:
    meta: Any = model._meta.concrete_model._meta  # type: ignore[union-attr]
    if get_serializer("json") is not Serializer or meta.get_parent_list():
        return None
    if any(names is None or field.name in names for field in meta.local_many_to_many):
        return None
    if isinstance(meta.pk, getattr(models, "CompositePrimaryKey", ())):
        return None
    fields = tuple(
        (field.name, field)
        for field in meta.local_fields
        # By Django's own rule: a relation is named without the "_id" of its column.
        if field.serialize
        and (
            names is None
            or (field.attname[:-3] if field.remote_field else field.name) in names
        )
    )
    return meta.pk, fields


def _plain(field: Field, instance: models.Model) -> Any:
    """A value as Django's JSON has it.

    Raises:
        _NotPlain: Of a type that is not known here.
    """
    value = field.value_from_object(instance)
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        if _INT_MIN <= value <= _INT_MAX:
            return value
    elif kind is float:
        if math.isfinite(value):
            return msgspec.Raw(repr(value).encode())
    elif kind is datetime.datetime or kind is datetime.date or kind is datetime.time:
        return value.isoformat()
    elif kind is Decimal:
        return str(value)
    elif kind is str and type(field).value_to_string is models.Field.value_to_string:
        return value
    else:
        text = field.value_to_string(instance)
        if type(text) is str:
            return text
    raise _NotPlain
