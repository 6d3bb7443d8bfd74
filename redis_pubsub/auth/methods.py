"""Token methods: one ``str`` in, a user or ``None`` out.

They are resolved when the first token comes, so that nobody needs a package he does not
use. A method may be synchronous (it runs in a database thread) or a coroutine function.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError
from django.utils.module_loading import import_string

from ..db import Orm
from ..exceptions import PoolBusy, PubSubError
from .lookups import Lookups

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

Method = Callable[[str], Any]

TOKEN_MAX = 8_192
"""Characters; a longer token is no token."""


class AuthUnavailable(PubSubError):
    """Whether a token is good cannot be said now: the database is down or too busy."""


def authtoken_method(token: str) -> AbstractBaseUser | None:
    """The user of a REST framework token (``rest_framework.authtoken``)."""
    from rest_framework.authtoken.models import Token

    row = Token.objects.select_related("user").filter(key=token).first()
    return row.user if row is not None else None


def authtoken_users(tokens: list[str]) -> dict[str, AbstractBaseUser]:
    """`authtoken_method` for tokens that came at the same time, in one query."""
    from rest_framework.authtoken.models import Token

    rows = Token.objects.select_related("user").filter(key__in=tokens)
    return {row.key: row.user for row in rows}


authtoken_method.many = authtoken_users  # type: ignore[attr-defined]


def authjwt_method(token: str) -> AbstractBaseUser | None:
    """The user of a JSON web token, by ``rest_framework_simplejwt`` or, where that is not
    installed, ``rest_framework_jwt`` (the package ``drf-jwt``)."""
    if find_spec("rest_framework_simplejwt") is not None:
        return _simplejwt_user(token)
    if find_spec("rest_framework_jwt") is not None:
        return _drf_jwt_user(token)
    raise ImproperlyConfigured(
        "authjwt_method needs a JWT package: pip install django-redis-pubsub[jwt]"
    )


def _simplejwt_user(token: str) -> AbstractBaseUser | None:
    from rest_framework_simplejwt.authentication import JWTAuthentication
    from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken

    backend = JWTAuthentication()
    try:
        return backend.get_user(backend.get_validated_token(token.encode()))
    except (AuthenticationFailed, InvalidToken):
        return None


def _drf_jwt_user(token: str) -> AbstractBaseUser | None:
    from jwt import PyJWTError
    from rest_framework.exceptions import AuthenticationFailed
    from rest_framework_jwt.authentication import JSONWebTokenAuthentication

    backend = JSONWebTokenAuthentication()
    try:
        payload = backend.jwt_decode_token(token)
        user: AbstractBaseUser = backend.authenticate_credentials(payload)
    except (AuthenticationFailed, PyJWTError):
        return None
    return user


class Authenticator:
    """Asks the configured methods in order until one knows the token.

    A synchronous method may have an attribute ``many``: a function that is given several
    tokens and returns the users it knows, by token. Then tokens that come at the same time
    share a query.

    Args:
        paths: Dotted paths of the methods.
        orm: Runs synchronous ones.
        waiting: How many tokens may wait for one method.
    """

    def __init__(self, paths: Sequence[str], orm: Orm, *, waiting: int = 10_000) -> None:
        self._paths = paths
        self._orm = orm
        self._waiting = waiting
        self._lookups: dict[Method, Lookups] = {}
        self._methods: list[Method] | None = None

    async def user_of(self, token: str) -> AbstractBaseUser | None:
        """The active user of a token, or ``None``. A method that raises is logged and
        counts as "does not know it".

        Raises:
            AuthUnavailable: The database is down or too busy.
        """
        if not token or len(token) > TOKEN_MAX:
            return None
        for method in self._resolved():
            try:
                if inspect.iscoroutinefunction(method):
                    user = await method(token)
                elif method in self._lookups:
                    user = await self._lookups[method].get(token)
                else:
                    user = await self._orm.run(method, token)
            except (OperationalError, InterfaceError, PoolBusy) as error:
                raise AuthUnavailable("tokens cannot be checked now") from error
            except Exception:
                logger.exception("tokenauth_method %s failed", _name(method))
                continue
            if user is not None:
                return user if getattr(user, "is_active", False) else None
        return None

    def _resolved(self) -> list[Method]:
        if self._methods is None:
            self._methods = [import_string(path) for path in self._paths]
            for method in self._methods:
                many = getattr(method, "many", None)
                if callable(many) and not inspect.iscoroutinefunction(method):
                    self._lookups[method] = Lookups(
                        self._orm, method, many, waiting=self._waiting
                    )
        return self._methods


def _name(method: Method) -> str:
    return f"{method.__module__}.{getattr(method, '__qualname__', method)}"
