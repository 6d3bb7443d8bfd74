"""How a check says what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from django.core.checks import CheckMessage, Error, Warning

from ..conf import SETTING


def error(id: str, text: str, hint: str, obj: Any = None) -> CheckMessage:
    return Error(text, hint=hint, obj=obj, id=f"redis_pubsub.{id}")


def warning(id: str, text: str, hint: str) -> CheckMessage:
    return Warning(text, hint=hint, id=f"redis_pubsub.{id}")


def at(*keys: object) -> str:
    """A place in the setting as Python writes it: ``REDIS_PUBSUB["limits"]["x"]``."""
    return SETTING + "".join(
        f'["{key}"]' if isinstance(key, str) else f"[{key!r}]" for key in keys
    )


def closest(word: object, known: Iterable[str]) -> str:
    """The known word that was probably meant, or ``""``."""
    [best, *_] = [*difflib.get_close_matches(str(word).lower(), list(known), n=1), ""]
    return best


def listed(words: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, words)))
