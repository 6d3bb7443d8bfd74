"""Looking again at who may hear what, when somebody says that it may have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from ...addresses import GROUP, address_of
from ...readers.live import USERS_PER_QUERY, LiveSubscriptions
from .personal import refresh_own_channels

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from .connection import Connection
    from .protocol.session import Heard
    from .server import LiveServer

logger = logging.getLogger("redis_pubsub.live")

_RETRY_S = 1.0
_AT_ONCE = 32
"""Connections for which the site's method is asked side by side."""


class Review:
    """Reads what is so now from the database; many users share a query."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._subscriptions: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        server.engine.closing.push_async_callback(self._close)

    def look_again(self, users: Iterable[str]) -> None:
        """Look again soon at who subscribes to what.

        Args:
            users: Whose rows changed, by primary key as text.
        """
        self._subscriptions.update(users)
        if self._subscriptions and self._task is None:
            self._task = asyncio.create_task(self._work(), name="redis-pubsub-review")

    async def _work(self) -> None:
        try:
            while self._subscriptions:
                users, self._subscriptions = self._subscriptions, set()
                try:
                    await self._review_rows(sorted(users))
                except Exception as error:
                    self._failed(error)
                    self._subscriptions |= users
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._task = None

    def _failed(self, error: Exception) -> None:
        self._server.engine.metrics.count("refresh_errors")
        logger.error("permissions could not be looked up; trying again", exc_info=error)

    async def _review_rows(self, users: list[str]) -> None:
        """End what was granted by a subscription that is no longer active."""
        known: LiveSubscriptions = self._server.engine.part(LiveSubscriptions)
        for begin in range(0, len(users), USERS_PER_QUERY):
            asked = users[begin : begin + USERS_PER_QUERY]
            # As it is before the question: what is granted meanwhile is newer.
            before = {
                connection: _granted(connection)
                for user in asked
                for connection in self._server.of_user(user)
            }
            active = await known.active_of(asked)
            for connection, channels in before.items():
                mine = active.get(connection.user_id, {})
                for channel, heard in channels.items():
                    if heard.by_row and channel not in mine:
                        _end(connection, channel, heard)
            await self._review_groups(asked, list(before))

    async def _review_groups(self, users: list[str], connections: list[Connection]) -> None:
        """End the channels of groups that users are no longer in, though nobody said so."""
        groups = await self._server.authorizer.personal.groups_by_user(users)
        if groups is None:
            return
        for connection in connections:
            own = [
                address_of(channel)
                for channel, heard in connection.session.channels.items()
                if heard.is_server_side and heard.is_confirmed
            ]
            heard_of = {each.whose for each in own if each and each.kind == GROUP}
            if heard_of - groups.get(connection.user_id, set()):
                await refresh_own_channels(connection)

    async def regrant(self, users: dict[str, AbstractBaseUser]) -> set[str]:
        """Ask anew what users may hear: their rows in one query for all of them, the
        site's method for each subscription.

        Args:
            users: As they are now, by primary key as text.

        Returns:
            Those for whom it failed.
        """
        # As it is before the question: what is granted meanwhile is newer.
        before = {
            connection: _granted(connection)
            for user in users
            for connection in self._server.of_user(user)
        }
        if not before:
            return set()
        try:
            await self._server.authorizer.personal.look_anew()
            known: LiveSubscriptions = self._server.engine.part(LiveSubscriptions)
            active = await known.active_of(list(users))
        except Exception as error:
            self._failed(error)
            return set(users)
        failed = set()
        waiting = list(before.items())
        while waiting:
            part = [waiting.pop() for _ in range(min(_AT_ONCE, len(waiting)))]
            outcomes = await asyncio.gather(
                *(
                    self._regrant(connection, granted, active[connection.user_id])
                    for connection, granted in part
                ),
                return_exceptions=True,
            )
            for (connection, _), outcome in zip(part, outcomes, strict=True):
                # What fails for one must not keep another's rights.
                if isinstance(outcome, Exception):
                    self._failed(outcome)
                    failed.add(connection.user_id)
        return failed

    async def _regrant(
        self, connection: Connection, granted: dict[str, Heard], mine: Container[str]
    ) -> None:
        wishes = [(channel, heard.token) for channel, heard in granted.items()]
        answers = await self._server.authorizer.answers_without_rows(
            connection.user,
            wishes,
            session_key=connection.credentials.session_key,
            connection=connection.id,
        )
        for (channel, heard), answer in zip(granted.items(), answers, strict=True):
            if heard.by_token and answer is not False:
                # A token stands unless the site's method speaks against it.
                continue
            if answer or (answer is None and channel in mine):
                heard.by_row = answer is None
            else:
                _end(connection, channel, heard)
        if connection.hears_unasked:
            await refresh_own_channels(connection)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def _end(connection: Connection, channel: str, heard: Heard) -> None:
    """End a subscription, unless the client has another of the channel by now."""
    if connection.session.channels.get(channel) is heard:
        connection.unsubscribe(channel)


def _granted(connection: Connection) -> dict[str, Heard]:
    """What a connection hears because it asked for it."""
    return {
        channel: heard
        for channel, heard in connection.session.channels.items()
        if heard.is_confirmed and not heard.is_server_side
    }
