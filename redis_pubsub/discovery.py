"""The modules of one name in every installed app; a broken one is told loudly."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from django.apps import AppConfig, apps

from .exceptions import HandlerConfigError


def app_modules(name: str) -> Iterator[tuple[AppConfig, ModuleType]]:
    """Import ``<app>.<name>``, a module or a package, of all installed apps that have one.

    Raises:
        HandlerConfigError: It does not import; from the error, with its traceback.
    """
    for app in apps.get_app_configs():
        path = f"{app.name}.{name}"
        if find_spec(path) is None:
            continue
        try:
            module = import_module(path)
        except Exception as error:
            raise HandlerConfigError(
                f"app {app.label!r}: {path} does not import: "
                f"{type(error).__name__}: {error}"
            ) from error
        yield app, module
