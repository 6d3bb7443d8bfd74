"""Subscriptions that change while they are heard, in whichever process they change.

The control channel says whose subscriptions changed; what they are now is read from the
database, in one query for up to 500 users, never taken from the message.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from django.db import router

from ..metrics import Occasionally
from ..models import Subscription

if TYPE_CHECKING:
    from ..engine import ControlEvent, Engine
    from .following import Following

logger = logging.getLogger("redis_pubsub.readers")

USERS_PER_QUERY = 500
_RETRY_S = 1.0


class LiveSubscriptions:
    """Whose subscriptions are heard in this process, and for which managers.

    Attributes:
        following: By user, what has to be told of changes.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.following: dict[str, set[Following]] = defaultdict(set)
        self._changed: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._may_log = Occasionally()
        engine.control.handlers.append(self._heard)
        engine.rounds.visits.append(self._visit)
        engine.closing.push_async_callback(self._close)

    def follow(self, user: str, following: Following) -> None:
        """Tell a manager's following when the user's subscriptions change."""
        self.following[user].add(following)

    def forget(self, user: str, following: Following) -> None:
        """Tell it nothing more of the user."""
        followers = self.following.get(user)
        if followers is not None:
            followers.discard(following)
            if not followers:
                del self.following[user]

    async def active_of(self, users: list[str]) -> dict[str, dict[str, Subscription]]:
        """The users' active subscriptions by channel name. One query."""
        active: dict[str, dict[str, Subscription]] = {user: {} for user in users}
        for subscription in await self._engine.orm.run(_active, users):
            user = str(subscription.subscriber_id)
            active[user][subscription.channel.name] = subscription
        return active

    async def refresh(self, users: Iterable[str]) -> set[str]:
        """Make the readers of the users' managers match what is active now.

        Returns:
            Those for whom it failed: what one of them may not hear any more does not wait
            for another's new channel.
        """
        wanted, failed = list(users), set()
        for begin in range(0, len(wanted), USERS_PER_QUERY):
            active = await self.active_of(wanted[begin : begin + USERS_PER_QUERY])
            due = [
                (user, following.apply(user, subscriptions))
                for user, subscriptions in active.items()
                for following in list(self.following.get(user, ()))
            ]
            outcomes = await asyncio.gather(
                *(applied for _, applied in due), return_exceptions=True
            )
            for (user, _), outcome in zip(due, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failed.add(user)
                    self._engine.metrics.count("refresh_errors")
                    if self._may_log(user):
                        logger.error(
                            "not all subscriptions of user %s are heard; trying again",
                            user,
                            exc_info=outcome,
                        )
        return failed

    def look_again(self, user: str) -> None:
        """Read a user's subscriptions soon; many users share a query."""
        self._changed.add(user)
        self._start()

    def _heard(self, event: ControlEvent) -> None:
        if event.kind == "all":
            self._changed.update(self.following)
        elif event.kind == "subscriptions":
            self._changed.update(user for user in event.users if user in self.following)
        self._start()

    def _visit(self, is_due: Callable[[str], bool]) -> None:
        self._changed.update(user for user in self.following if is_due(user))
        self._start()

    def _start(self) -> None:
        if self._changed and self._task is None:
            self._task = asyncio.create_task(self._catch_up(), name="redis-pubsub-live")

    async def _catch_up(self) -> None:
        try:
            while self._changed:
                users, self._changed = self._changed, set()
                try:
                    failed = await self.refresh(users)
                except Exception:
                    self._engine.metrics.count("refresh_errors")
                    logger.exception("subscriptions could not be read; trying again")
                    failed = users
                if failed:
                    self._changed |= failed
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._task = None

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def _active(users: list[str]) -> list[Subscription]:
    # Not a replica: whoever looks was told after the commit, and it may not know yet.
    rows = Subscription.objects.using(router.db_for_write(Subscription))
    rows = rows.filter(active=True, subscriber__in=users)
    return list(rows.select_related("subscriber", "channel"))
