"""From a value or a row to a message that can be sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import models

from .. import codec
from ..audiences import is_audience_channel
from ..conf import Config
from ..exceptions import AudienceRequired
from ..messages import EVERYONE, SNAPSHOT, Draft, Header, check_channel_name, new_header
from ..models import PublishableModel
from ..models.publishable import has_audiences, renders_for_audiences, serialize
from ..models.snapshots import encode_document, encode_lazy, snapshot_of

_MICROSECOND = 1_000_000


def draft_of_payload(
    config: Config,
    channel: str,
    payload: Any,
    *,
    event: str,
    exclude: str = "",
    history: bool = True,
    audience: str = "",
) -> Draft:
    """A message with any JSON-able value; raises as `redis_pubsub.publish` does."""
    if audience not in ("", EVERYONE):
        raise ValueError(f'audience is "everyone" or left out, not {audience!r}')
    raw = codec.encode(payload, encode_lazy)
    header = new_header(event, exclude=exclude, audience=audience)
    return draft_of_raw(config, channel, raw, header, history=history)


def draft_of_raw(
    config: Config, channel: str, raw: bytes, header: Header, *, history: bool = True
) -> Draft:
    """A message whose payload is JSON already, on one line.

    Raises:
        AudienceRequired: The channel is for rows that are judged for each audience.
    """
    if header.audience != EVERYONE and is_audience_channel(config, channel):
        raise AudienceRequired(channel)
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
    is_judged = has_audiences(type(instance)) or is_audience_channel(config, channel)
    shown = None if fields is None else list(fields)
    if is_judged:
        raw = _snapshot(instance, shown)
    else:
        raw = _payload(instance, shown)
    codec.check_size(raw, config.limits.message_bytes)
    header = new_header(
        event,
        model=instance._meta.label_lower,
        pk=str(instance.pk),
        exclude=exclude,
        audience=SNAPSHOT if is_judged else "",
        fields=shown if is_judged else None,
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
    if has_audiences(model):
        # What it renders it renders later, from all fields.
        return bool(model._meta.many_to_many)
    is_default = (
        model.serialize is PublishableModel.serialize and model.PUBLISH_SERIALIZER is None
    )
    names = model.PUBLISH_FIELDS
    return not is_default or any(
        names is None or field.name in names for field in model._meta.many_to_many
    )


def has_expressions(instance: models.Model) -> bool:
    """Whether a field holds an expression that the database computed."""
    return any(
        hasattr(instance.__dict__.get(field.attname), "resolve_expression")
        for field in instance._meta.concrete_fields
    )


def _payload(instance: models.Model, fields: Iterable[str] | None) -> bytes:
    if fields is not None:
        document: Any = serialize(instance, fields)
    elif isinstance(instance, PublishableModel):
        document = instance.serialize()
    else:
        document = serialize(instance, ())
    return encode_document(document)


def _snapshot(instance: models.Model, fields: list[str] | None) -> bytes:
    if not isinstance(instance, PublishableModel):
        # Of somebody else's model nothing is stored that is not shown.
        return encode_document(serialize(instance, fields or ()))
    if fields is not None and renders_for_audiences(type(instance)):
        raise TypeError(
            f"{instance._meta.label} renders its payload for each audience, which "
            "fields=… would go past: leave it out"
        )
    return encode_document(snapshot_of(instance))


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
