"""Signed tokens for both kinds of site, made without Django."""

from __future__ import annotations

import base64
import hmac
import json
import time

KEY = "not a secret, only for benchmarks, and long enough for HS256"


def our_token() -> str:
    """As `redis_pubsub.auth.tokens.connection_token` makes it."""
    return _signed({"sub": "1", "exp": time.time() + 86400})


def simplejwt_token() -> str:
    """An access token of ``rest_framework_simplejwt``."""
    now = int(time.time())
    claims = {"token_type": "access", "iat": now, "exp": now + 86400}
    return _signed({**claims, "jti": "benchmark", "user_id": "1"})


def _signed(claims: dict[str, object]) -> str:
    signed = b".".join(map(_encoded, ({"alg": "HS256", "typ": "JWT"}, claims)))
    digest = hmac.digest(KEY.encode(), signed, "sha256")
    return (signed + b"." + _base64(digest)).decode()


def _encoded(value: object) -> bytes:
    return _base64(json.dumps(value).encode())


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
