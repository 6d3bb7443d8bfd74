"""Token methods that are there: one ``str`` in, a user or ``None`` out.

Their packages are imported when the first token comes, so that nobody needs one he does not
use. Who asks them is `Authenticator`.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router

from .published_keys import published_keys
from .standing import user_of_word

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


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
    if keys is not None and not published_keys.are_there(keys, token):
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
    if keys is not None and not published_keys.are_there(keys, token):
        return None
    try:
        claims = JWTAuthentication().get_validated_token(token.encode())
    except InvalidToken:
        return None
    return user_of_word(claims.get(api_settings.USER_ID_CLAIM))


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
