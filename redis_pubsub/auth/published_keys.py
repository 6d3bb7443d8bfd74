"""Asking for the keys of ``JWK_URL`` without being held up by whoever has them."""

from __future__ import annotations

import threading
import time
from typing import Any

from .authenticator import AuthUnavailable

TIMEOUT_S = 5.0
HOLD_OFF_S = 2.0
AGAIN_S = 30.0
"""For so long a key that was not among the published ones is none: who makes names up does
not make us ask again and again."""


class PublishedKeys:
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

        client.timeout = min(client.timeout, TIMEOUT_S)
        if not self._lock.acquire(timeout=HOLD_OFF_S):
            raise AuthUnavailable("somebody waits for the keys of JWK_URL already")
        try:
            now = time.monotonic()
            if now - self._failed_at < HOLD_OFF_S:
                raise AuthUnavailable("the keys of JWK_URL could not be had a moment ago")
            if _has_kept(client) and now - self._fetched_at < AGAIN_S:
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


published_keys = PublishedKeys()
