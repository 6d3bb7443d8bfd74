"""The checks of models that publish themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.db import models

from ..models import PublishableModel
from ..models.publishable import has_audiences
from .audiences import check_hooks, check_snapshot
from .references import load, unreachable
from .report import closest, error, listed

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset(
    (
        "password",
        "passwords",
        "passwd",
        "passphrase",
        "secret",
        "secrets",
        "token",
        "tokens",
    )
) | frozenset(("apikey", "apikeys", "privatekey", "otp", "totp", "hotp"))
_SECRET_PHRASES = (("api", "key"), ("api", "keys"), ("private", "key"), ("access", "key"))


def check_models(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Everything that is wrong with how models publish themselves."""
    owners = app_configs if app_configs is not None else [apps]
    found = chain.from_iterable(owner.get_models() for owner in owners)
    return [
        message
        for model in found
        if issubclass(model, PublishableModel)
        for message in (
            *_fields(model),
            *_version(model),
            *_serializer(model),
            *_tracked_by(model),
            *_outbox(model),
            *_audiences(model),
        )
    ]


def looks_secret(name: str) -> bool:
    """Whether a field's name says that its value is for nobody to see: by whole words,
    so that ``compass`` or ``secretary`` are not meant."""
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or any(
        pair in _SECRET_PHRASES for pair in pairwise(words)
    )


def _fields(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    sent = _sendable(model)
    named = model.PUBLISH_FIELDS
    if not _is_default(model):
        sent = []
    elif isinstance(named, str) or not isinstance(named, Sequence | set | frozenset | None):
        yield error(
            "E102",
            f"PUBLISH_FIELDS must be a list of names, not {type(named).__name__}.",
            'Write a list, as in PUBLISH_FIELDS = ["body", "author"].',
            model,
        )
        sent = []
    elif named is not None:
        for name in named:
            if name not in (*sent, "pk", model._meta.pk.name):
                yield _missing("E102", "PUBLISH_FIELDS", name, sent, model)
        sent = [name for name in sent if name in named]
    for name in sent:
        if looks_secret(name):
            yield _secret(model, name)
    if looks_secret(model._meta.pk.name):
        yield error(
            "E101",
            f'"{model._meta.pk.name}" looks like a secret and would be published: a '
            "message always carries the primary key.",
            "Give the model another primary key.",
            model,
        )


def _secret(model: type[PublishableModel], name: str) -> CheckMessage:
    return error(
        "E101",
        f'"{name}" looks like a secret and would be published to every subscriber.',
        "Name the fields to send in PUBLISH_FIELDS, without it. If it is none, render the "
        "payload with PUBLISH_SERIALIZER or serialize(), or silence this check.",
        model,
    )


def _version(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    name = model.PUBLISH_VERSION
    known = [field.name for field in model._meta.concrete_fields]
    if name is not None and name not in known:
        yield _missing("E103", "PUBLISH_VERSION", name, known, model)


def _serializer(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    serializer = model.PUBLISH_SERIALIZER
    if isinstance(serializer, str):
        _, problem = load(serializer)
        if problem:
            yield unreachable("E104", "PUBLISH_SERIALIZER", serializer, problem, model)
    elif serializer is not None and not callable(serializer):
        yield error(
            "E104",
            f"PUBLISH_SERIALIZER must be a class, not {type(serializer).__name__}.",
            "Write a REST framework serializer class, or its dotted path.",
            model,
        )


def _tracked_by(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    name = model.TRACK_DELIVERY_BY
    moments = {
        field.name: field
        for field in model._meta.concrete_fields
        if isinstance(field, models.DateTimeField)
    }
    if name is None:
        return
    if name not in moments:
        yield error(
            "E105",
            f"TRACK_DELIVERY_BY names {name!r}, which is not a DateTimeField.",
            "Name the one that says when a row was made, or add one: "
            "created_at = models.DateTimeField(auto_now_add=True).",
            model,
        )
    elif moments[name].auto_now:
        yield error(
            "E105",
            f"TRACK_DELIVERY_BY names {name!r}, which changes with every save: a row whose "
            "receipts were pruned would be owed to everybody again.",
            "Name a field that is set once, with auto_now_add=True.",
            model,
        )


def _outbox(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    if model.PUBLISH_OUTBOX not in (True, False, None):
        yield error(
            "E106",
            f"PUBLISH_OUTBOX must be True, False or None, not {model.PUBLISH_OUTBOX!r}.",
            'Write None to follow REDIS_PUBSUB["outbox"].',
            model,
        )


def _audiences(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    yield from check_hooks(model)
    if has_audiences(model):
        yield from check_snapshot(model, [*filter(looks_secret, _sendable(model))])


def _is_default(model: type[PublishableModel]) -> bool:
    is_own = model.serialize is not PublishableModel.serialize
    return not is_own and model.PUBLISH_SERIALIZER is None


def _sendable(model: type[PublishableModel]) -> list[str]:
    """Names of the fields that Django's serializer sends if nothing is named."""
    relations: list[Any] = [
        field
        for field in model._meta.many_to_many
        if field.remote_field.through._meta.auto_created  # type: ignore[union-attr]
    ]
    fields: list[Any] = [*model._meta.concrete_fields, *relations]
    return [field.name for field in fields if field.serialize]


def _missing(
    id: str, attribute: str, name: Any, known: list[str], model: type[PublishableModel]
) -> CheckMessage:
    meant = closest(name, known)
    return error(
        id,
        f"{attribute} names {name!r}, which is not a field that can be sent.",
        f'Did you mean "{meant}"?' if meant else f"There are: {listed(known)}.",
        model,
    )
