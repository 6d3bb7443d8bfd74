"""Version 1.0's import paths: they lead to today's names, with a note."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that leads to where its names live now.

    Args:
        module: The old module's ``__name__``.
        names: Old name to ``"new.module:name"``, or to a sentence that begins with
            ``"!"`` and says what to use instead of a name that is gone.
    """

    def lookup(name: str) -> Any:
        target = names.get(name)
        if target is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if target.startswith("!"):
            raise AttributeError(f"{module}.{name} is gone: {target[1:]}")
        home, _, new_name = target.partition(":")
        warnings.warn(
            f"{module}.{name} has moved: `from {home} import {new_name}`",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), new_name)

    return lookup
