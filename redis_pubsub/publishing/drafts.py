"""From a value or a row to a message that can be sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import models
from msgspec import structs

from .. import codec
from ..audiences import is_audience_channel
from ..conf import Config
from ..exceptions import AudienceRequired
from ..messages import (
    EVERYONE,
    SNAPSHOT,
    UPDATE,
    Draft,
    Header,
    check_channel_name,
    new_header,
)
from ..models import PublishableModel
from ..models.plans import plain_json
from ..models.publishable import has_audiences, renders_for_audiences, serialize
from ..models.snapshots import encode_document, encode_lazy, snapshot_of

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
    audience: str = "",
) -> list[Draft]:
    """One value as a message for each of several channels, encoded once.

    Args:
        expire_s: Keep it for so long, whatever the options say; 0 forgets what is kept.
        audience: `EVERYONE` for a plain value where each audience sees something else.

    Raises:
        ValueError: ``expire_s`` is negative, or given with ``history=False``; ``audience``
            is something else.
    """
    if expire_s is not None and (expire_s < 0 or not history):
        raise ValueError("expire_s is a number of seconds from 0, and needs history")
    if audience not in ("", EVERYONE):
        raise ValueError(f'audience is "everyone" or left out, not {audience!r}')
    if isinstance(payload, models.Model):
        event = event or UPDATE
        drafts = _drafts_of_instance(config, channels, payload, event, exclude)
    else:
        raw = codec.encode(payload, encode_lazy)
        drafts = [
            draft_of_raw(
                config,
                each,
                raw,
                new_header(event, exclude=exclude, audience=audience),
                history=history,
            )
            for each in channels
        ]
    if expire_s is not None:
        drafts = [_expiring(draft, expire_s) for draft in drafts]
    return drafts


def _drafts_of_instance(
    config: Config,
    channels: Sequence[str],
    instance: models.Model,
    event: str,
    exclude: str,
) -> list[Draft]:
    # What is stored where audiences differ is another form of the row.
    made: dict[bool, Draft] = {}
    drafts = []
    for channel in channels:
        is_judged = _is_judged(config, channel, type(instance))
        if is_judged in made:
            draft = _elsewhere(config, made[is_judged], channel)
        else:
            draft = made[is_judged] = draft_of_instance(
                config, channel, instance, event=event, exclude=exclude
            )
        drafts.append(draft)
    return drafts


def _elsewhere(config: Config, draft: Draft, channel: str) -> Draft:
    """The message of a row for another channel."""
    header = structs.replace(draft.header, id=new_header().id)
    options = config.model_channel_options(check_channel_name(channel))
    return replace(draft, channel=channel, header=header, options=options)


def _expiring(draft: Draft, expire_s: int) -> Draft:
    size = max(1, draft.options.history_size) if expire_s else 0
    options = replace(draft.options, history_size=size, history_ttl_s=expire_s)
    return replace(draft, options=options, joins_history=False)


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
    is_judged = _is_judged(config, channel, type(instance))
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


def _is_judged(config: Config, channel: str, model: type[models.Model]) -> bool:
    """Whether each audience gets its own view of a row on a channel."""
    return has_audiences(model) or is_audience_channel(config, channel)


def may_query(model: type[models.Model]) -> bool:
    """Whether serializing a row of this model can reach the database."""
    if not issubclass(model, PublishableModel):
        return False
    if has_audiences(model):
        # What it renders it renders later, from all fields.
        return bool(model._meta.many_to_many)
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
