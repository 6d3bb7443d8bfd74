"""The tasks framework that is there: Django's since 6.0, or ``django-tasks``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def home() -> str | None:
    """``"django.tasks"``, ``"django_tasks"``, or ``None``."""
    return next(
        (name for name in ("django.tasks", "django_tasks") if find_spec(name)), None
    )


def part(name: str = "") -> Any:
    """A module of the framework.

    Raises:
        ImportError: There is none.
    """
    found = home()
    if found is None:
        raise ImportError(
            "there is no tasks framework: use Django 6.0 or newer, or pip install "
            "django-tasks"
        )
    return import_module(f"{found}.{name}" if name else found)


def normalize_json(value: Any) -> Any:
    """A value as JSON will give it back.

    Raises:
        TypeError: It is not JSON-able.
    """
    where = "django.utils.json" if home() == "django.tasks" else "django_tasks.utils"
    return import_module(where).normalize_json(value)
