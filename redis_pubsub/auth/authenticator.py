"""From a token to who may come in: asks a site's methods, one after the other.

They are resolved when the first token comes. A method may be synchronous (it runs in a
database thread) or a coroutine function; those of this package are in
`redis_pubsub.auth.methods`.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError
from django.utils.module_loading import import_string

from ..db import Orm
from ..exceptions import PoolBusy, PubSubError
from .lookups import Lookups
from .standing import Standing, digest_of
from .tokens import TOKEN_MAX, expiry_of

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

Method = Callable[[str], Any]


class AuthUnavailable(PubSubError):
    """Whether a token is good cannot be said now: the database is down or too busy."""


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
