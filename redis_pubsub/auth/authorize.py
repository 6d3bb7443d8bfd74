"""May this user do that on a channel? Default: no.

A user may listen to a channel with an active `Subscription`, to what is for him, his
session, his groups or everybody, where a channel option says so, or where the site's
``authorize_method`` does. Its answer wins: ``True`` allows, ``False`` refuses, ``None``
leaves it to the other rules.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import DatabaseError, InterfaceError, router
from django.db.models import Exists, OuterRef
from django.utils.module_loading import import_string

from ..conf import Config
from ..db import Orm
from ..exceptions import PoolBusy
from ..models import Channel, Subscription
from .personal import Personal
from .rules import Rules

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

SUBSCRIBE = "subscribe"
PUBLISH = "publish"
PRESENCE = "presence"
HISTORY = "history"

_ROWS_REMEMBERED = 10_000
_ABSENCE_REMEMBERED_S = 10.0


class Grant(NamedTuple):
    """The answer to a wish to listen.

    Attributes:
        is_allowed: Whether it was granted.
        has_row: Whether the channel exists as a row, so that models are published on it.
        by_row: Whether it was granted by a `Subscription`, and ends with it.
    """

    is_allowed: bool
    has_row: bool = False
    by_row: bool = False


REFUSED = Grant(False)


class Authorizer:
    """Answers for one process.

    Args:
        config: Channel options and ``authorize_method``.
        orm: Runs queries, and the method where it is a plain function.
    """

    def __init__(self, config: Config, orm: Orm) -> None:
        self._config = config
        self._orm = orm
        self.personal = Personal(config.live_options.personal_channels, orm)
        self._rules = Rules(config, self.personal)
        self._method: Callable[..., Any] | None = None
        # Which channels have rows (for ever), and which had none a moment ago (since).
        self._rows: dict[str, float] = {}

    async def may_subscribe(
        self,
        user: AbstractBaseUser | None,
        channel: str,
        *,
        token: str = "",
        session_key: str = "",
        connection: str = "",
    ) -> bool:
        """Whether a client may listen to a channel.

        Args:
            user: Who asks; ``None`` if nobody is logged in.
            channel: The channel's name, as the client wrote it.
            token: What the client sent along for this channel.
            session_key: Of Django's session, where one came along.
            connection: Id of the connection that asks.
        """
        (grant,) = await self.grants(
            user, [(channel, token)], session_key=session_key, connection=connection
        )
        return grant.is_allowed

    async def grants(
        self,
        user: AbstractBaseUser | None,
        wishes: Sequence[tuple[str, str]],
        *,
        session_key: str = "",
        connection: str = "",
        signed: Container[str] = (),
    ) -> list[Grant]:
        """`may_subscribe` for many channels (and their tokens), in one query; in two where
        one is for a group. ``signed`` are those that a token of this site's own allows:
        the method is not shown it."""
        answers = await self.answers_without_rows(
            user, wishes, session_key=session_key, connection=connection
        )
        unknown = set()
        for (channel, token), answer in zip(wishes, answers, strict=True):
            if answer is None:
                is_open = user is not None or bool(token) or channel in signed
            else:
                is_open = answer and self._is_unknown(channel)
            if is_open:
                unknown.add(channel)
        rows: dict[str, bool] = {}
        if unknown:
            rows = await self._orm.run(_rows, user, sorted(unknown))
            self._remember(unknown, rows)
        return [
            self._grant(channel, answer, rows)
            for (channel, _), answer in zip(wishes, answers, strict=True)
        ]

    @property
    def has_method(self) -> bool:
        """Whether the site has a method of its own."""
        return bool(self._config.authorize_method)

    async def answers_without_rows(
        self,
        user: AbstractBaseUser | None,
        wishes: Sequence[tuple[str, str]],
        *,
        session_key: str = "",
        connection: str = "",
    ) -> list[bool | None]:
        """What method and rules say of channels (and their tokens), in order; ``None``
        where an active `Subscription` decides. No query of its own, but for groups."""
        own = await self._rules.own(user, session_key, [channel for channel, _ in wishes])
        if not self.has_method:
            # Nothing to wait for, so no tasks.
            return [self._rules.may_listen(user, channel, own) for channel, _ in wishes]
        answers = await asyncio.gather(
            *(
                self._ask(user, channel, SUBSCRIBE, token, connection)
                for channel, token in wishes
            )
        )
        return [
            self._rules.may_listen(user, channel, own) if answer is None else answer
            for (channel, _), answer in zip(wishes, answers, strict=True)
        ]

    async def may(
        self,
        user: AbstractBaseUser | None,
        channel: str,
        action: str,
        *,
        is_subscribed: bool = False,
        session_key: str = "",
        connection: str = "",
    ) -> bool:
        """Whether a client may publish on a channel, or ask for its presence or history.

        Args:
            user: Who asks; ``None`` if nobody is logged in.
            channel: The channel's name.
            action: `PUBLISH`, `PRESENCE` or `HISTORY`.
            is_subscribed: Whether the connection listens to the channel: then it may also
                ask who is there and what was said.
            session_key: Of Django's session, where one came along.
            connection: Id of the connection that asks.
        """
        answer = await self._ask(user, channel, action, "", connection)
        if answer is not None:
            return answer
        if action == PUBLISH:
            return self._rules.may_publish(user, channel)
        return is_subscribed or await self.may_subscribe(
            user, channel, session_key=session_key, connection=connection
        )

    def _grant(self, channel: str, answer: bool | None, rows: dict[str, bool]) -> Grant:
        if answer is False:
            return REFUSED
        has_row = channel in rows or self._rows.get(channel) == 0
        if answer is None:
            return Grant(rows.get(channel, False), has_row, by_row=True)
        return Grant(True, has_row)

    async def _ask(
        self,
        user: AbstractBaseUser | None,
        channel: str,
        action: str,
        token: str,
        connection: str,
    ) -> bool | None:
        path = self._config.authorize_method
        if not path:
            return None
        if self._method is None:
            self._method = import_string(path)
        assert self._method is not None
        arguments: dict[str, Any] = {
            "user": user,
            "channel": channel,
            "action": action,
            "token": token,
            "connection": connection,
        }
        try:
            if inspect.iscoroutinefunction(self._method):
                answer = await self._method(**arguments)
            else:
                answer = await self._orm.run(self._method, **arguments)
        except (DatabaseError, InterfaceError, PoolBusy):
            # It is not the method that says no: whoever asks may ask again.
            raise
        except Exception:
            logger.exception("authorize_method %s failed; refused", path)
            return False
        return None if answer is None else bool(answer)

    # -- which channels have rows ------------------------------------------------------

    def _is_unknown(self, channel: str) -> bool:
        """Whether it matters if the channel has a row, and that has to be looked up."""
        ruled = self._config.channel_options(channel).has_history
        may_keep = self._config.model_channel_options(channel).has_history
        if ruled or not may_keep:
            return False
        known = self._rows.get(channel)
        if known is None:
            return True
        return known > 0 and time.monotonic() - known > _ABSENCE_REMEMBERED_S

    def _remember(self, asked: set[str], rows: dict[str, bool]) -> None:
        if len(self._rows) > _ROWS_REMEMBERED:
            self._rows.clear()
        now = time.monotonic()
        for channel in asked:
            self._rows[channel] = 0 if channel in rows else now


def _rows(user: AbstractBaseUser | None, channels: list[str]) -> dict[str, bool]:
    """Of these channels those that have rows, and whether the user is subscribed; not from
    a replica, which may not know yet."""
    rows = Channel.objects.using(router.db_for_write(Channel)).filter(name__in=channels)
    if user is None:
        return dict.fromkeys(rows.values_list("name", flat=True), False)
    mine = Subscription.objects.filter(subscriber=user, channel=OuterRef("pk"), active=True)
    return dict(rows.annotate(is_mine=Exists(mine)).values_list("name", "is_mine"))
