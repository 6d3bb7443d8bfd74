"""Keys and kinds: is everything in the setting known, and of the right kind?

The kinds are read off the annotations of `Config`, `ChannelOptions`, `Limits` …, so that
a new option is checked as soon as it exists. What the values mean is ``values``'s matter;
it gets only those that are sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from django.core.checks import CheckMessage

from ..conf import Config
from ..options import (
    ChannelOptions,
    HealthOptions,
    Limits,
    LiveOptions,
    ReceiptOptions,
    WorkerOptions,
)
from .report import at, closest, error, listed

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a key may hold.

    Attributes:
        name: "must be" this.
        hint: What to write.
        fits: Whether a value is of this kind.
    """

    name: str
    hint: str
    fits: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(item, str) for item in value
    )


def _is_address(value: Any) -> bool:
    match value:
        case str():
            return True
        case (str(), port):
            return _is_whole(port)
    return False


_TEXT = Kind(
    "a string",
    "A variable that is missing in the environment is None: give it a default.",
    lambda value: isinstance(value, str),
)
_OPTIONAL_TEXT = Kind(
    "a string or None", _TEXT.hint, lambda value: value is None or _TEXT.fits(value)
)
_FLAG = Kind(
    "True or False",
    "Text from the environment is true even if it says False: compare it, as in "
    'os.environ.get("X") == "1".',
    lambda value: isinstance(value, bool),
)
_WHOLE = Kind(
    "a whole number", "Turn text from the environment into one with int(…).", _is_whole
)
_NUMBER = Kind(
    "a number", "Turn text from the environment into one with float(…).", _is_number
)
_TEXTS = Kind("a list of strings", 'Write a list, as in ["one", "another"].', _is_texts)
_TEXT_OR_TEXTS = Kind(
    "a string or a list of strings",
    'Write "one", or a list, as in ["one", "another"].',
    lambda value: isinstance(value, str) or _is_texts(value),
)
_SECTION = Kind(
    "a dict", "Write a dict of options.", lambda value: isinstance(value, Mapping)
)
_ADDRESS = Kind(
    "a (host, port) pair or the path of a unix socket",
    'Write ("localhost", 6379), or use "url" instead.',
    _is_address,
)

_KIND_OF_ANNOTATION: Mapping[Any, Kind] = {
    str: _TEXT,
    bool: _FLAG,
    int: _WHOLE,
    float: _NUMBER,
    tuple[str, ...]: _TEXTS,
    str | tuple[str, ...]: _TEXT_OR_TEXTS,
}


def _kinds(options: type[Any]) -> dict[str, Kind]:
    hints = get_type_hints(options)
    return {
        name: _KIND_OF_ANNOTATION[hint]
        for name, hint in hints.items()
        if hint in _KIND_OF_ANNOTATION
    }


CHANNEL_KINDS = _kinds(ChannelOptions)
LIMIT_KINDS = _kinds(Limits)
LIVE_KINDS = _kinds(LiveOptions)
RECEIPT_KINDS = _kinds(ReceiptOptions)
HEALTH_KINDS = _kinds(HealthOptions)
WORKER_KINDS = _kinds(WorkerOptions)
KINDS = {
    **{
        # A list at the top may be written as one string; see ``conf.read``.
        key: _TEXT_OR_TEXTS if kind is _TEXTS else kind
        for key, kind in _kinds(Config).items()
    },
    "channels": _SECTION,
    "live": _SECTION,
    "receipts": _SECTION,
    "health": _SECTION,
    "workers": _SECTION,
    "limits": _SECTION,
    "address": _ADDRESS,
    "db": _WHOLE,
    "username": _OPTIONAL_TEXT,
    "password": _OPTIONAL_TEXT,
}
_SECTIONS = {
    "channels": CHANNEL_KINDS,
    "limits": LIMIT_KINDS,
    "live": LIVE_KINDS,
    "receipts": RECEIPT_KINDS,
    "health": HEALTH_KINDS,
    "workers": WORKER_KINDS,
}


@dataclass(frozen=True)
class Sound:
    """The values that are of the right kind; sections are sifted too.

    Attributes:
        top: Key to value, without the sections.
        channels: Pattern to option to value.
        limits: Limit to value.
        receipts: Option to value.
        health: What monitoring may ask.
        live: Of the live endpoint.
        workers: Option to value.
    """

    top: dict[str, Any] = field(default_factory=dict)
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    receipts: dict[str, Any] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    live: dict[str, Any] = field(default_factory=dict)
    workers: dict[str, Any] = field(default_factory=dict)

    def texts(self, key: str) -> list[str]:
        """A list of strings, which may be written as one string."""
        value = self.top.get(key, ())
        return [value] if isinstance(value, str) else list(value)

    @property
    def url(self) -> str:
        """The broker's URL where it is given, else that of the default's kind."""
        return str(self.top.get("url", Config.url))


def sift(setting: Any) -> tuple[Sound, list[CheckMessage]]:
    """Part sound values from wrong ones.

    Args:
        setting: ``settings.REDIS_PUBSUB``, whatever it is.

    Returns:
        The sound values, and one message for each of the others.
    """
    if not isinstance(setting, Mapping):
        return Sound(), [_no_dict(setting)]
    messages: list[CheckMessage] = []
    top = _sift(setting, KINDS, messages)
    channels: dict[str, dict[str, Any]] = {}
    for pattern, options in top.pop("channels", {}).items():
        if not isinstance(pattern, str) or not pattern:
            messages.append(_no_pattern(pattern))
        elif not isinstance(options, Mapping):
            messages.append(_no_dict(options, "channels", pattern))
        else:
            channels[pattern] = _sift(options, CHANNEL_KINDS, messages, "channels", pattern)
    limits = _sift(top.pop("limits", {}), LIMIT_KINDS, messages, "limits")
    live = _sift(top.pop("live", {}), LIVE_KINDS, messages, "live")
    receipts = _sift(top.pop("receipts", {}), RECEIPT_KINDS, messages, "receipts")
    health = _sift(top.pop("health", {}), HEALTH_KINDS, messages, "health")
    workers = _sift(top.pop("workers", {}), WORKER_KINDS, messages, "workers")
    return Sound(top, channels, limits, receipts, health, live, workers), messages


def _sift(
    values: Mapping[Any, Any],
    kinds: Mapping[str, Kind],
    messages: list[CheckMessage],
    *path: str,
) -> dict[str, Any]:
    sound: dict[str, Any] = {}
    for key, value in values.items():
        kind = kinds.get(key)
        if kind is None:
            messages.append(_unknown(key, kinds, path))
        elif kind.fits(value):
            sound[key] = value
        elif kind is _SECTION:
            messages.append(_no_dict(value, *path, key))
        else:
            text = f"{at(*path, key)} must be {kind.name}, not {type(value).__name__}."
            messages.append(error("E003", text, kind.hint))
    return sound


def _unknown(key: Any, kinds: Mapping[str, Kind], path: tuple[str, ...]) -> CheckMessage:
    section = path[0] if path else ""
    homes = [name for name, other in _SECTIONS.items() if name != section and key in other]
    meant = closest(key, kinds)
    if meant:
        hint = f'Did you mean "{meant}"?'
    elif homes:
        inner = ("channels", "<pattern>") if homes[0] == "channels" else (homes[0],)
        hint = f"It belongs into {at(*inner)}."
    else:
        hint = f"Known here: {listed(kinds)}."
    return error("E001", f"{at(*path, key)} is unknown and has no effect.", hint)


def _no_dict(value: Any, *path: str) -> CheckMessage:
    text = f"{at(*path)} must be a dict, not {type(value).__name__}."
    return error("E002", text, f"Write {at(*path)} = {{…}}, or leave it out.")


def _no_pattern(pattern: Any) -> CheckMessage:
    return error(
        "E003",
        f"{at('channels')}: {pattern!r} is not a channel's name or pattern.",
        'Write a name, or a shell pattern such as "news:*".',
    )
