"""From a value or a row to a message that can be sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import models
from django.utils.functional import Promise

from .. import codec
from ..conf import Config
from ..messages import UPDATE, Draft, Header, check_channel_name, new_header
from ..models import PublishableModel
from ..models.plans import plain_json
from ..models.publishable import serialize

_MICROSECOND = 1_000_000


def drafts_of(
    config: Config,
    channels: Sequence[str],
    payload: Any,
    *,
    event: str = "",
    exclude: str = "",
    history: bool = True,
    expire_s: int | None = None,
) -> list[Draft]:
    """One value as a message for each of several channels, encoded once.

    Args:
        expire_s: Keep it for so long, whatever the options say; 0 forgets what is kept.

    Raises:
        ValueError: ``expire_s`` is negative, or given with ``history=False``.
    """
    if expire_s is not None and (expire_s < 0 or not history):
        raise ValueError("expire_s is a number of seconds from 0, and needs history")
    if isinstance(payload, models.Model):
        event = event or UPDATE
        first = draft_of_instance(
            config, channels[0], payload, event=event, exclude=exclude
        )
        drafts = [first, *(_elsewhere(config, first, each) for each in channels[1:])]
    else:
        raw = codec.encode(payload, _encode_lazy)
        drafts = [
            draft_of_raw(
                config, each, raw, new_header(event, exclude=exclude), history=history
            )
            for each in channels
        ]
    if expire_s is not None:
        drafts = [_expiring(draft, expire_s) for draft in drafts]
    return drafts


def _elsewhere(config: Config, draft: Draft, channel: str) -> Draft:
    """The message of a row for another channel."""
    known = draft.header
    header = new_header(known.event, model=known.model, pk=known.pk, exclude=known.exclude)
    options = config.model_channel_options(check_channel_name(channel))
    return replace(draft, channel=channel, header=header, options=options)


def _expiring(draft: Draft, expire_s: int) -> Draft:
    size = max(1, draft.options.history_size) if expire_s else 0
    options = replace(draft.options, history_size=size, history_ttl_s=expire_s)
    return replace(draft, options=options, joins_history=False)


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
