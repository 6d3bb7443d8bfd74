"""Token methods: one ``str`` in, a user or ``None`` out.

They are resolved when the first token comes, so that nobody needs a package he does not
use. A method may be synchronous (it runs in a database thread) or a coroutine function.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, router
from django.utils.module_loading import import_string

from ..db import Orm
from ..exceptions import PoolBusy, PubSubError
from .lookups import Lookups
from .standing import Standing, digest_of, user_of_word
from .tokens import TOKEN_MAX, expiry_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

Method = Callable[[str], Any]

_KEYS_TIMEOUT_S = 5.0
_KEYS_HOLD_OFF_S = 2.0
_KEYS_AGAIN_S = 30.0
"""For so long a key that was not among the published ones is none: who makes names up does
not make us ask again and again."""


class AuthUnavailable(PubSubError):
    """Whether a token is good cannot be said now: the database is down or too busy."""


def authtoken_method(token: str) -> AbstractBaseUser | None:
    """The user of a REST framework token (``rest_framework.authtoken``)."""
    from rest_framework.authtoken.models import Token

    row = Token.objects.select_related("user").filter(key=token).first()
    return row.user if row is not None else None


def _still_good(tokens: Collection[str]) -> Collection[str]:
    from rest_framework.authtoken.models import Token

    rows = Token.objects.using(router.db_for_write(Token)).filter(key__in=tokens)
    return set(rows.values_list("key", flat=True))


# A method may have this, so that open sockets end with their tokens also where nobody was
# told: of many tokens that it knew, those that it would still know.
authtoken_method.still_good = _still_good  # type: ignore[attr-defined]


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
    from rest_framework_simplejwt import state
    from rest_framework_simplejwt.authentication import JWTAuthentication
    from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken

    keys = state.token_backend.jwks_client
    if keys is not None and not _published_keys.are_there(keys, token):
        return None
    backend = JWTAuthentication()
    try:
        return backend.get_user(backend.get_validated_token(token.encode()))
    except (AuthenticationFailed, InvalidToken):
        return None


async def authjwt_stateless_method(token: str) -> AbstractBaseUser | None:
    """The user of a token of ``rest_framework_simplejwt``, by the token's word alone and
    without a query: see `redis_pubsub.auth.standing.user_of_word`."""
    from rest_framework_simplejwt import state

    if state.token_backend.jwks_client is not None:
        # Its keys may have to be fetched.
        blocking = sync_to_async(_stateless_user, thread_sensitive=False)
        return await blocking(token)
    return _stateless_user(token)


def _stateless_user(token: str) -> AbstractBaseUser | None:
    from django.contrib.auth import get_user_model
    from rest_framework_simplejwt import state
    from rest_framework_simplejwt.authentication import JWTAuthentication
    from rest_framework_simplejwt.exceptions import InvalidToken
    from rest_framework_simplejwt.settings import api_settings

    if api_settings.USER_ID_FIELD not in ("pk", get_user_model()._meta.pk.attname):
        raise ImproperlyConfigured(
            "authjwt_stateless_method needs tokens that name primary keys, and SIMPLE_JWT "
            f"has USER_ID_FIELD {api_settings.USER_ID_FIELD!r}: use authjwt_method"
        )
    if getattr(api_settings, "CHECK_REVOKE_TOKEN", False):
        raise ImproperlyConfigured(
            "SIMPLE_JWT's CHECK_REVOKE_TOKEN looks at the user's row, which "
            "authjwt_stateless_method does not: use authjwt_method"
        )
    keys = state.token_backend.jwks_client
    if keys is not None and not _published_keys.are_there(keys, token):
        return None
    try:
        claims = JWTAuthentication().get_validated_token(token.encode())
    except InvalidToken:
        return None
    return user_of_word(claims.get(api_settings.USER_ID_CLAIM))


class _PublishedKeys:
    """The keys of ``JWK_URL``, asked so that a server that does not answer holds one
    database thread for seconds, and not all of them for half a minute each; and so that
    this is told from a bad token, which simplejwt does not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed_at = float("-inf")
        self._fetched_at = float("-inf")

    def are_there(self, client: Any, token: str) -> bool:
        """Whether there is a key by the name in a token's head; who checks the token after
        this finds it without asking anybody.

        Raises:
            AuthUnavailable: That cannot be said now.
        """
        import jwt

        try:
            kid = jwt.get_unverified_header(token).get("kid")
            if self._is_kept(client, kid):
                return True
            return self._fetched(client, kid)
        except jwt.PyJWKClientConnectionError as error:
            raise AuthUnavailable("the keys of JWK_URL cannot be had") from error
        except jwt.PyJWTError:
            return False

    def _is_kept(self, client: Any, kid: Any) -> bool:
        if not _has_kept(client):
            return False
        return client.match_kid(client.get_signing_keys(), kid) is not None

    def _fetched(self, client: Any, kid: Any) -> bool:
        import jwt

        client.timeout = min(client.timeout, _KEYS_TIMEOUT_S)
        if not self._lock.acquire(timeout=_KEYS_HOLD_OFF_S):
            raise AuthUnavailable("somebody waits for the keys of JWK_URL already")
        try:
            now = time.monotonic()
            if now - self._failed_at < _KEYS_HOLD_OFF_S:
                raise AuthUnavailable("the keys of JWK_URL could not be had a moment ago")
            if _has_kept(client) and now - self._fetched_at < _KEYS_AGAIN_S:
                # Perhaps somebody has fetched them while this waited.
                return self._is_kept(client, kid)
            try:
                client.get_signing_key(kid)
            except jwt.PyJWKClientConnectionError:
                self._failed_at = now
                raise
            finally:
                self._fetched_at = now
        finally:
            self._lock.release()
        return True


def _has_kept(client: Any) -> bool:
    return client.jwk_set_cache is not None and client.jwk_set_cache.get() is not None


_published_keys = _PublishedKeys()


def _drf_jwt_user(token: str) -> AbstractBaseUser | None:
    from jwt import PyJWTError
    from rest_framework.exceptions import AuthenticationFailed
    from rest_framework_jwt.authentication import JSONWebTokenAuthentication
    from rest_framework_jwt.settings import api_settings

    backend = JSONWebTokenAuthentication()
    try:
        payload = backend.jwt_decode_token(token)
        # The package looks at an end where there is one; a token without is for ever.
        if api_settings.JWT_VERIFY_EXPIRATION and "exp" not in payload:
            return None
        user: AbstractBaseUser = backend.authenticate_credentials(payload)
    except (AuthenticationFailed, PyJWTError, KeyError):
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
        """The active user of a token, or ``None``; see `standing_of`."""
        standing = await self.standing_of(token)
        return None if standing is None else standing.user

    async def standing_of(self, token: str) -> Standing | None:
        """The active user of a token, and what is to be remembered of it; or ``None``.

        The first method that knows it decides. One that raises has refused it, so that no
        later method lets in whom it has found something against; the traceback is logged,
        without the token.

        Raises:
            AuthUnavailable: The database is down or too busy.
        """
        if not is_possible(token):
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
            except AuthUnavailable:
                raise
            except Exception as error:
                logger.error(
                    "tokenauth_method %s failed; refused\n%s",
                    _name(method),
                    _traceback_without(token, error),
                )
                return None
            if user is not None:
                is_active = getattr(user, "is_active", False)
                return _standing(user, token, method) if is_active else None
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


def is_possible(token: str) -> bool:
    """Whether a text can be a token at all: nobody is asked about others."""
    if not token or len(token) > TOKEN_MAX or "\x00" in token:
        return False
    # Bytes of a header that were no UTF-8; no database takes them.
    return token.isascii() or not any("\ud800" <= each <= "\udfff" for each in token)


def _traceback_without(token: str, error: BaseException) -> str:
    """A traceback for the log: errors like to quote what they were given."""
    text = "".join(traceback.format_exception(error)).rstrip()
    for spelling in {token, repr(token)[1:-1]}:
        text = text.replace(spelling, "…")
    return text


def _standing(user: AbstractBaseUser, token: str, method: Method) -> Standing:
    still_good = getattr(method, "still_good", None)
    return Standing(
        user,
        token="" if still_good is None else token,
        still_good=still_good,
        digest=digest_of(token),
        expires_at=expiry_of(token),
    )


def _name(method: Method) -> str:
    return f"{method.__module__}.{getattr(method, '__qualname__', method)}"
