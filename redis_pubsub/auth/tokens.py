"""Signed tokens of this site's own: who somebody is, or which channel he may hear.

JSON web tokens, HS256 only, with the key ``REDIS_PUBSUB["live"]["token_key"]``, or with the
first of several: a new key goes to the front, and the old one stays until its tokens have
ended. For other algorithms and issuers there is ``tokenauth_method``.

Source: RFC 7515 and RFC 7519; the claims are those of Centrifugo, whose clients these
tokens serve.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.exceptions import ImproperlyConfigured
from msgspec import Raw

from ..conf import get_config
from ..exceptions import PubSubError

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

TOKEN_MAX = 8_192
"""Characters; a longer token is no token."""
_HEADER = b'{"alg":"HS256","typ":"JWT"}'


class InvalidToken(PubSubError):
    """A token that is malformed, or signed with another key."""


class ExpiredToken(InvalidToken):
    """A good token whose time is over."""


# What is empty is left out of a token, which goes by identity.
_NO_INFO = Raw()


class Claims(msgspec.Struct, omit_defaults=True):
    """What a token says.

    Attributes:
        sub: The user's primary key as text; ``""`` for nobody.
        channel: Of a subscription token: the one channel it is for.
        exp: Unix time in seconds from which it is no longer good; 0 for never.
        nbf: Unix time from which it is good.
        info: What others are told of the connection (or subscription).
    """

    sub: str = ""
    channel: str = ""
    exp: float = 0
    nbf: float = 0
    info: Raw = _NO_INFO


class _Header(msgspec.Struct):
    alg: str


class _Expiry(msgspec.Struct):
    exp: float = 0


_FROM_URL = bytes.maketrans(b"-_", b"+/")
_claims = msgspec.json.Decoder(Claims)
_expiry = msgspec.json.Decoder(_Expiry)
_header = msgspec.json.Decoder(_Header)


def connection_token(user: AbstractBaseUser, *, ttl_s: int = 3600, info: Any = None) -> str:
    """A token that lets a client connect as a user.

    Args:
        user: Who it is for.
        ttl_s: Seconds it is good for.
        info: JSON-able; shown to others where the user is present.

    Raises:
        ImproperlyConfigured: There is no ``token_key``.
    """
    return _token(Claims(sub=str(user.pk), exp=time.time() + ttl_s, info=_raw(info)))


def subscription_token(
    user: AbstractBaseUser | None, channel: str, *, ttl_s: int = 3600, info: Any = None
) -> str:
    """A token that lets a client of this user hear one channel; see `connection_token`.

    Args:
        user: Who it is for; ``None`` for a client that is nobody.
        channel: The channel's name.
    """
    sub = "" if user is None else str(user.pk)
    exp = time.time() + ttl_s
    return _token(Claims(sub=sub, channel=channel, exp=exp, info=_raw(info)))


def sign(claims: bytes, key: str) -> str:
    """A token with these claims."""
    signed = b"%s.%s" % (_encode(_HEADER), _encode(claims))
    return (b"%s.%s" % (signed, _encode(_digest(key, signed)))).decode()


def verify(token: str, keys: str | Sequence[str]) -> Claims:
    """What a token says, if it is to be believed.

    Args:
        token: Of a client.
        keys: One of these has signed it. Each is tried, whichever fits: how long it takes
            says nothing.

    Raises:
        ExpiredToken: It was good once.
        InvalidToken: It is not ours, or not yet good.
    """
    if len(token) > TOKEN_MAX:
        raise InvalidToken("too long for a token")
    try:
        head, body, signature = token.encode("ascii").split(b".")
        is_ours = _is_hs256(head) and _is_signed(
            _decoded_exactly(signature), b"%s.%s" % (head, body), keys
        )
        claims = _claims.decode(_decoded(body)) if is_ours else None
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidToken(f"not a token: {error}") from None
    now = time.time()
    if claims is None or claims.nbf > now:
        raise InvalidToken("a token of somebody else, or not yet good")
    if claims.exp and claims.exp <= now:
        raise ExpiredToken("the token has expired")
    return claims


def expiry_of(token: str) -> float:
    """When a JSON web token ends, by its own word: 0 for never, or for another kind of
    token. Believe it only of a token that somebody has verified."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_MAX:
        return 0
    try:
        return _expiry.decode(_decoded(parts[1].encode())).exp
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        return 0


@functools.lru_cache(maxsize=64)
def _is_hs256(head: bytes) -> bool:
    """What the head of a token says; there are few of them."""
    return _header.decode(_decoded(head)).alg == "HS256"


def _token(claims: Claims) -> str:
    keys = get_config().live_options.token_keys
    if not keys:
        raise ImproperlyConfigured('tokens need a key: REDIS_PUBSUB["live"]["token_key"]')
    return sign(msgspec.json.encode(claims), keys[0])


def _is_signed(signature: bytes, signed: bytes, keys: str | Sequence[str]) -> bool:
    is_signed = False
    for key in (keys,) if isinstance(keys, str) else keys:
        fits = hmac.compare_digest(signature, _digest(key, signed))
        is_signed |= fits and bool(key)
    return is_signed


def _raw(info: Any) -> Raw:
    return _NO_INFO if info is None else Raw(msgspec.json.encode(info))


def _digest(key: str, signed: bytes) -> bytes:
    return hmac.digest(key.encode(), signed, "sha256")


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(data: bytes) -> bytes:
    return binascii.a2b_base64(data.translate(_FROM_URL) + b"=" * (-len(data) % 4))


def _decoded_exactly(data: bytes) -> bytes:
    """The decoder takes many spellings for one signature; here there is one."""
    decoded = _decoded(data)
    if _encode(decoded) != data:
        raise ValueError("not base64url as a token has it")
    return decoded
