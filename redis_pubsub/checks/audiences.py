"""The checks of models of which not everybody sees the same, and of their channels."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage

from ..models import PublishableModel
from ..models.publishable import AUDIENCE_HOOKS, has_audiences
from ..options import ChannelRules
from .report import at, error
from .shape import Sound

_OF_THE_CLASS = ("can_view", "audience_key", "audience_language")


def check_hooks(model: type[PublishableModel]) -> Iterator[CheckMessage]:
    """How a model says who sees what."""
    for name in AUDIENCE_HOOKS:
        own = inspect.getattr_static(model, name)
        is_of_class = isinstance(own, classmethod | staticmethod)
        function = own.__func__ if isinstance(own, classmethod | staticmethod) else own
        if name in _OF_THE_CLASS and not is_of_class:
            arguments = "cls, user, instance" if name == "can_view" else "cls, user"
            yield error(
                "E107",
                f"{name} must be a classmethod: as it is, everything would be withheld.",
                f"Write @classmethod def {name}({arguments}).",
                model,
            )
        elif inspect.iscoroutinefunction(function):
            yield error(
                "E107",
                f"{name} is a coroutine function: everything would be withheld.",
                "Write a plain function; it runs in a thread, and may query.",
                model,
            )


def check_snapshot(
    model: type[PublishableModel], secrets: list[str]
) -> Iterator[CheckMessage]:
    """What Redis would keep of a model.

    Args:
        model: One that has audiences.
        secrets: Names of its fields that look like secrets.
    """
    for name in secrets:
        yield error(
            "E108",
            f'"{name}" looks like a secret, and Redis would keep it: of a model with '
            "audiences all fields are stored, whatever is sent of them.",
            "Put it into a model of its own. If it is no secret, silence this check.",
            model,
        )


def check_channels(sound: Sound) -> Iterator[CheckMessage]:
    """Rules of channels that speak of audiences."""
    judged = {
        model._meta.label_lower: model._meta.label
        for model in apps.get_models()
        if has_audiences(model)
    }
    for pattern, options in sound.channels.items():
        path = ("channels", pattern)
        may_publish = options.get("publish", "")
        if options.get("audience") and may_publish:
            yield error(
                "E013",
                f"{at(*path, 'publish')} is {may_publish!r}, but nothing that clients "
                "publish is let through where messages are judged for each audience.",
                'Leave "publish" out, or give what clients say a channel of its own.',
            )
        if options.get("audience") is False:
            yield from _switched_off(path, pattern, options, judged)


def _switched_off(
    path: tuple[str, str], pattern: str, options: Any, judged: dict[str, str]
) -> Iterator[CheckMessage]:
    rules = ChannelRules({pattern: {}})
    for label, name in judged.items():
        carries = label in map(str.lower, options.get("models", ()))
        if carries or rules.pattern_of(f"{label}:1"):
            yield error(
                "E013",
                f"{at(*path, 'audience')} is False, but {name} says who may see what: "
                "that holds on every channel.",
                'Leave "audience" out, or take the model off these channels.',
            )
