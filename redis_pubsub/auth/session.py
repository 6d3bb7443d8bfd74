"""From Django's session cookie to a user, and whether a session is still there."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core import signing
from django.core.cache import caches
from django.db import router
from django.http import HttpRequest
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

_EXPIRY_KEY = "_session_expiry"
"""Where Django keeps what ``set_expiry`` was told."""
_KEY_MAX = 4_096
"""Characters: what a browser keeps of a cookie, and signed cookies are that long."""


class StoredSession(NamedTuple):
    """A session that is there.

    Attributes:
        data: What is in it.
        expires_at: Unix time; 0 where its backend does not say.
    """

    data: dict[str, Any]
    expires_at: float


def has_sessions() -> bool:
    """Whether the site uses Django's sessions and users."""
    return apps.is_installed("django.contrib.sessions") and apps.is_installed(
        "django.contrib.auth"
    )


def session_key_of(cookie: str) -> str:
    """The session key in a cookie's value; ``""`` for what no session can have: bytes that
    are no text, control characters, more than a browser keeps. No store is asked for it."""
    is_possible = cookie.isascii() and cookie.isprintable() and len(cookie) <= _KEY_MAX
    return cookie if is_possible else ""


def user_of_session(session_key: str) -> AbstractBaseUser | None:
    """The active user logged in with a session, by the site's own session engine and
    authentication backends. Blocking: call it in a database thread."""
    from django.contrib.auth import get_user

    request = HttpRequest()
    request.session = _store_class()(session_key)
    user = get_user(request)
    return user if user.is_authenticated and user.is_active else None


def stored_sessions(keys: Collection[str]) -> dict[str, StoredSession]:
    """Those of these sessions that have not ended, by key: one question for all of them
    where they are in a database or a cache. Blocking: call it in a database thread."""
    if not keys:
        return {}
    from django.contrib.sessions.backends import cache, db, signed_cookies

    kind = _store_class()
    if issubclass(kind, db.SessionStore):
        # Those of `cached_db` too: every save and every end is in the database.
        return _of_database(kind, keys)
    if issubclass(kind, cache.SessionStore):
        return _of_cache(kind, keys)
    signs = issubclass(kind, signed_cookies.SessionStore)
    found = {}
    for key in keys:
        data = kind(key).load()
        if data:
            expires_at = _end_of_cookie(key) if signs else _explicit_end(data)
            found[key] = StoredSession(data, expires_at)
    return found


def _store_class() -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore


def _of_database(kind: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    model, store = kind.get_model_class(), kind()
    rows = model._default_manager.using(router.db_for_write(model)).filter(
        session_key__in=keys, expire_date__gt=timezone.now()
    )
    return {
        row.session_key: StoredSession(
            store.decode(row.session_data), row.expire_date.timestamp()
        )
        for row in rows
    }


def _of_cache(kind: Any, keys: Collection[str]) -> dict[str, StoredSession]:
    prefix = kind.cache_key_prefix
    found = caches[settings.SESSION_CACHE_ALIAS].get_many([prefix + key for key in keys])
    return {
        name.removeprefix(prefix): StoredSession(data, _explicit_end(data))
        for name, data in found.items()
    }


def _explicit_end(data: dict[str, Any]) -> float:
    """The moment that ``set_expiry`` was given, if it was one: an age begins anew with
    every save, and when that was is not in the data."""
    at = data.get(_EXPIRY_KEY)
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if not isinstance(at, datetime):
        return 0
    return (at if timezone.is_aware(at) else timezone.make_aware(at)).timestamp()


def _end_of_cookie(key: str) -> float:
    """When a signed cookie, whose signature was checked, is too old."""
    signed_at = key.rsplit(":", 2)[1]
    return signing.b62_decode(signed_at) + settings.SESSION_COOKIE_AGE
