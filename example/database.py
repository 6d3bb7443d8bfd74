"""From ``DATABASE_URL`` to what Django's ``DATABASES`` wants."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_SERVERS = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
}


def database(url: str) -> dict[str, Any]:
    """One entry of ``DATABASES``.

    Args:
        url: ``sqlite:///relative.sqlite3``, ``sqlite:////absolute.sqlite3``,
            ``postgres://user:password@host:port/name`` or ``mysql://…``. What follows a
            ``?`` becomes ``OPTIONS``.

    Raises:
        ValueError: The URL names another kind of database, or none.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(parts)
    if parts.scheme not in _SERVERS or not parts.path.strip("/"):
        raise ValueError(
            "DATABASE_URL must be sqlite:///PATH, postgres://USER:PASSWORD@HOST/NAME "
            f"or mysql://…, not one that begins with {parts.scheme or 'no scheme'!r}"
        )
    return {
        "ENGINE": _SERVERS[parts.scheme],
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }


def _sqlite(parts: SplitResult) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": unquote(parts.path.removeprefix("/")),
        "OPTIONS": {
            # Several workers write: each waits for the lock when it begins a
            # transaction, and readers wait for nobody.
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }
