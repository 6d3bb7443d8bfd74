"""Looking again at who may hear what, when somebody says that it may have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from ...codes import Disconnects
from ...readers.live import USERS_PER_QUERY, LiveSubscriptions

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from .connection import Connection
    from .protocol.session import Heard
    from .server import LiveServer

logger = logging.getLogger("redis_pubsub.live")

_RETRY_S = 1.0


class Review:
    """Reads what is so now from the database; many users share a query."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._subscriptions: set[str] = set()
        self._users: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._has_failed = False
        server.engine.closing.push_async_callback(self._close)

    def look_again(self, users: Iterable[str], *, entirely: bool = False) -> None:
        """Look again soon.

        Args:
            users: Whose rows changed, by primary key as text.
            entirely: Not only their subscriptions: whether they are active, and all that
                was granted by other rules.
        """
        (self._users if entirely else self._subscriptions).update(users)
        if (self._users or self._subscriptions) and self._task is None:
            self._task = asyncio.create_task(self._work(), name="redis-pubsub-review")

    async def _work(self) -> None:
        try:
            while self._users or self._subscriptions:
                users, self._users = self._users, set()
                subscribers, self._subscriptions = self._subscriptions - users, set()
                # User by user: what fails for one must not keep another's rights.
                self._subscriptions |= await self._tried(self._review_rows, subscribers)
                for user in sorted(users):
                    self._users |= await self._tried(self._review, {user})
                if self._has_failed:
                    self._has_failed = False
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._task = None

    async def _tried(
        self, review: Callable[[list[str]], Awaitable[None]], users: set[str]
    ) -> set[str]:
        """Look at users; those again for whom it failed."""
        if not users:
            return set()
        try:
            await review(sorted(users))
        except Exception:
            self._server.engine.metrics.count("refresh_errors")
            logger.exception("permissions could not be looked up; trying again")
            self._has_failed = True
            return users
        return set()

    async def _review_rows(self, users: list[str]) -> None:
        """End what was granted by a subscription that is no longer active."""
        known: LiveSubscriptions = self._server.engine.part(LiveSubscriptions)
        for begin in range(0, len(users), USERS_PER_QUERY):
            asked = users[begin : begin + USERS_PER_QUERY]
            # As it is before the question: what is granted meanwhile is newer.
            before = {
                connection: dict(connection.session.channels)
                for user in asked
                for connection in self._server.of_user(user)
            }
            active = await known.active_of(asked)
            for connection, channels in before.items():
                mine = active.get(connection.user_id, {})
                for channel, heard in channels.items():
                    if heard.by_row and channel not in mine:
                        _end(connection, channel, heard)

    async def _review(self, users: list[str]) -> None:
        """Ask everything anew."""
        found = await self._server.engine.orm.run(active_users, users) if users else {}
        for user in users:
            for connection in self._server.of_user(user):
                row = found.get(user)
                if row is None:
                    connection.end(Disconnects.PERMISSION_DENIED)
                else:
                    await self._regrant(connection, row)

    async def _regrant(self, connection: Connection, user: AbstractBaseUser) -> None:
        connection.user = user
        asked = {
            channel: heard
            for channel, heard in connection.session.channels.items()
            if heard.is_confirmed and not heard.is_server_side
        }
        grants = await self._server.authorizer.grants(
            user, [(channel, "") for channel in asked], connection=connection.id
        )
        for (channel, heard), grant in zip(asked.items(), grants, strict=True):
            if heard.by_token and (grant.is_allowed or grant.by_row):
                # A token stands unless the site's method speaks against it.
                continue
            if grant.is_allowed:
                heard.by_row = grant.by_row
            else:
                _end(connection, channel, heard)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def _end(connection: Connection, channel: str, heard: Heard) -> None:
    """End a subscription, unless the client has another of the channel by now."""
    if connection.session.channels.get(channel) is heard:
        connection.unsubscribe(channel)


def active_users(pks: list[str]) -> dict[str, Any]:
    """Those of these users who may still log in, by primary key as text."""
    users = get_user_model()._default_manager.filter(pk__in=pks)
    return {str(user.pk): user for user in users if user.is_active}
