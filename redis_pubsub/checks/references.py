"""What the setting names elsewhere: functions, packages, models."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.utils.module_loading import import_string

from ..auth import authjwt_method, authtoken_method
from .report import at, closest, error, warning
from .shape import Sound

_AUTHTOKEN = "rest_framework.authtoken"
_JWT_MODULES = ("rest_framework_simplejwt", "rest_framework_jwt")


def check_references(sound: Sound) -> Iterator[CheckMessage]:
    """Everything that the setting names must be there."""
    for path in sound.texts("tokenauth_method"):
        method, problem = load(path)
        if problem:
            yield unreachable("E006", at("tokenauth_method"), path, problem)
        else:
            yield from _missing_package(method)
    yield from _default_method(sound)
    path = sound.top.get("authorize_method", "")
    if path:
        _, problem = load(path)
        if problem:
            yield unreachable("E006", at("authorize_method"), path, problem)
    path = sound.live.get("personal_channels", "")
    if path:
        _, problem = load(path)
        if problem:
            yield unreachable("E006", at("live", "personal_channels"), path, problem)
    yield from _labels(sound.texts("publishable_models"), at("publishable_models"))
    for pattern, options in sound.channels.items():
        place = at("channels", pattern, "models")
        yield from _labels(options.get("models", ()), place)


def load(path: str) -> tuple[Any, str]:
    """Import something callable.

    Returns:
        It and ``""``, or ``None`` and what is wrong.
    """
    try:
        found = import_string(path)
    except Exception as problem:  # A module of the site may raise anything.
        return None, f"{type(problem).__name__}: {problem}"
    if not callable(found):
        return None, f"it is not callable but {type(found).__name__}"
    return found, ""


def unreachable(
    id: str, place: str, path: str, problem: str, obj: Any = None
) -> CheckMessage:
    return error(
        id,
        f"{place} names {path!r}, which cannot be used: {problem.rstrip('.')}.",
        'Write the dotted path of something callable, "package.module.name", whose '
        "module can be imported.",
        obj,
    )


def _missing_package(method: Any) -> Iterator[CheckMessage]:
    place = at("tokenauth_method")
    if method is authtoken_method and not apps.is_installed(_AUTHTOKEN):
        hint = f'Add "rest_framework" and "{_AUTHTOKEN}" to INSTALLED_APPS and migrate.'
        if find_spec("rest_framework") is None:
            hint = f"Run pip install django-redis-pubsub[drf]. {hint}"
        yield error("E007", f"{place}: authtoken_method needs {_AUTHTOKEN}.", hint)
    if method is authjwt_method and all(find_spec(name) is None for name in _JWT_MODULES):
        yield error(
            "E007",
            f"{place}: authjwt_method needs {' or '.join(_JWT_MODULES)}.",
            "Run pip install django-redis-pubsub[jwt], or use another method.",
        )


def _default_method(sound: Sound) -> Iterator[CheckMessage]:
    # A site that only uses cookies never asks the default method, and hears nothing
    # about it. One that takes tokens from the query expects some.
    expects_tokens = sound.top.get("token_in_query", False)
    is_default = "tokenauth_method" not in sound.top
    if expects_tokens and is_default and not apps.is_installed(_AUTHTOKEN):
        yield warning(
            "W001",
            f"{at('token_in_query')} is on, but the default tokenauth_method needs "
            f"{_AUTHTOKEN}, which is not in INSTALLED_APPS: no token will be accepted.",
            f"Set {at('tokenauth_method')}, or run pip install django-redis-pubsub[drf] "
            f'and add "rest_framework" and "{_AUTHTOKEN}" to INSTALLED_APPS.',
        )


def _labels(labels: Any, place: str) -> Iterator[CheckMessage]:
    known = {model._meta.label_lower: model._meta.label for model in apps.get_models()}
    for label in labels:
        if label.lower() not in known:
            meant = known.get(closest(label, known))
            hint = f'Did you mean "{meant}"? ' if meant else ""
            yield error(
                "E012",
                f"{place}: there is no model {label!r}.",
                f'{hint}Write "app_label.ModelName", of an app in INSTALLED_APPS.',
            )
