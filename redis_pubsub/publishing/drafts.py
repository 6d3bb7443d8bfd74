"""From a value or a row to a message that can be sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import models
from django.utils.functional import Promise

from .. import codec
from ..conf import Config
from ..messages import Draft, Header, check_channel_name, new_header
from ..models import PublishableModel
from ..models.plans import plain_json
from ..models.publishable import serialize

_MICROSECOND = 1_000_000


def draft_of_payload(
    config: Config,
    channel: str,
    payload: Any,
    *,
    event: str,
    exclude: str = "",
    history: bool = True,
) -> Draft:
    """A message with any JSON-able value; raises as `redis_pubsub.publish` does."""
    raw = codec.encode(payload, _encode_lazy)
    header = new_header(event, exclude=exclude)
    return draft_of_raw(config, channel, raw, header, history=history)


def draft_of_raw(
    config: Config, channel: str, raw: bytes, header: Header, *, history: bool = True
) -> Draft:
    """A message whose payload is JSON already, on one line."""
    codec.check_size(raw, config.limits.message_bytes)
    options, joins_history = config.plain_channel_options(check_channel_name(channel))
    if not history:
        options, joins_history = replace(options, history_size=0), False
    return Draft(channel, header, raw, options, joins_history=joins_history)


def draft_of_instance(
    config: Config,
    channel: str,
    instance: models.Model,
    *,
    event: str,
    fields: Iterable[str] | None = None,
    exclude: str = "",
) -> Draft:
    """A message with a row as it is now."""
    if has_expressions(instance):
        # What `F("n") + 1` came to is known to the database only.
        saved = type(instance)._base_manager.using(instance._state.db)
        instance = saved.get(pk=instance.pk)
    raw = _payload(instance, fields)
    codec.check_size(raw, config.limits.message_bytes)
    header = new_header(
        event, model=instance._meta.label_lower, pk=str(instance.pk), exclude=exclude
    )
    return Draft(
        channel=check_channel_name(channel),
        header=header,
        raw=raw,
        options=config.model_channel_options(channel),
        version=_version(instance),
    )


def may_query(model: type[models.Model]) -> bool:
    """Whether serializing a row of this model can reach the database."""
    if not issubclass(model, PublishableModel):
        return False
    names = model.PUBLISH_FIELDS
    return not _is_in_djangos_form(model) or any(
        names is None or field.name in names for field in model._meta.many_to_many
    )


def has_expressions(instance: models.Model) -> bool:
    """Whether a field holds an expression that the database computed."""
    # Asked twice for each save: of a few values' types, not of each field.
    return any(
        hasattr(value, "resolve_expression") for value in instance.__dict__.values()
    ) and any(
        hasattr(instance.__dict__.get(field.attname), "resolve_expression")
        for field in instance._meta.concrete_fields
    )


def _is_in_djangos_form(model: type[PublishableModel]) -> bool:
    """Whether nobody chose another payload for a model."""
    return model.serialize is PublishableModel.serialize and (
        model.PUBLISH_SERIALIZER is None
    )


def _payload(instance: models.Model, fields: Iterable[str] | None) -> bytes:
    if fields is not None:
        document: Any = serialize(instance, fields)
    elif isinstance(instance, PublishableModel):
        if _is_in_djangos_form(type(instance)):
            plain = plain_json(instance, instance.PUBLISH_FIELDS)
            if plain is not None:
                return plain
        document = instance.serialize()
    else:
        document = serialize(instance, ())
    if isinstance(document, str | bytes):
        return codec.one_line(document)
    return codec.encode(document, _encode_lazy)


def _version(instance: models.Model) -> int | None:
    name = getattr(instance, "PUBLISH_VERSION", None)
    if name is None:
        return None
    value = getattr(instance, name)
    if isinstance(value, datetime):
        value = int(value.timestamp() * _MICROSECOND)
    if not isinstance(value, int) or value < 0:
        raise TypeError(
            f"PUBLISH_VERSION field {name!r} of {instance._meta.label} must "
            f"hold a datetime or an integer from 0, not {value!r}"
        )
    return value


def _encode_lazy(value: Any) -> Any:
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, models.Model):
        raise TypeError(
            f"a {value._meta.label} inside a payload: publish the instance itself, or "
            "put the fields you want into a dict"
        )
    raise TypeError(f"a {type(value).__name__} is not JSON-able")
