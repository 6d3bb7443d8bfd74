"""From Django's session cookie to a user."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


def has_sessions() -> bool:
    """Whether the site uses Django's sessions and users."""
    return apps.is_installed("django.contrib.sessions") and apps.is_installed(
        "django.contrib.auth"
    )


def user_of_session(session_key: str) -> AbstractBaseUser | None:
    """The active user logged in with a session, by the site's own session engine and
    authentication backends. Blocking: call it in a database thread."""
    from django.contrib.auth import get_user

    request = HttpRequest()
    engine = import_module(settings.SESSION_ENGINE)
    request.session = engine.SessionStore(session_key)
    user = get_user(request)
    return user if user.is_authenticated and user.is_active else None
