"""Whether those who were let in still would be: asked when somebody says that it may have
changed, when a session or token is due, and of everybody now and then.

Control messages say whose; what is so is read from the database. They may be lost, or be
lies: they make a process look, and what it finds decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from ..auth.standing import judge
from ..codes import Disconnects
from ..engine import ControlEvent, Engine
from ..rounds import PARTS
from .connections import Connection, Connections

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.websockets")

CONNECTIONS_PER_QUERY = 500
_RETRY_S = 1.0
_LEAST_S = 1.0
"""Between two looks at a session that is due."""
_AHEAD_S = 120.0
"""A closed connection is not remembered for longer by what waits for its end."""
_NEWCOMERS_S = 5.0
"""Sessions that began within so long share the query for their ends."""

Users = dict[str, "AbstractBaseUser"]
Follow = Callable[[Users], Awaitable[set[str]]]


class Rechecks:
    """Looks again at the connections of one engine.

    Attributes:
        follow: Called with those who may stay, by primary key as text, after all that
            they may do may have changed; gives back those for whom it failed.
        heard: How often somebody said that something changed: who lets a connection in
            compares, see `watch`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: Connections = engine.part(Connections)
        self.follow: Follow | None = None
        self.heard = 0
        # Whose: to be looked at, or entirely with all that they may do.
        self._users: set[str] = set()
        self._entirely: set[str] = set()
        self._due: set[Connection] = set()
        self._armed: set[Connection] = set()
        self._newcomers: set[Connection] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._lost = 0
        self._entire_turns = 0
        engine.control.handlers.append(self._heard)
        engine.rounds.visits.append(self._visit)
        engine.closing.push_async_callback(self._close)

    # -- who is looked at ----------------------------------------------------------------

    def watch(self, connection: Connection, heard: int) -> None:
        """Begin to watch a connection that was let in.

        Args:
            connection: One of `Connections`.
            heard: What `heard` was when it was asked who it is.
        """
        standing = connection.standing
        if standing is None:
            return
        if self.heard != heard:
            self.look_again([standing.user_id])
        if standing.expires_at:
            self._arm(connection)
        elif standing.session_key:
            # Its end is read soon, together with those of others.
            if not self._newcomers:
                delay_s = min(_NEWCOMERS_S, self._engine.rounds.period_s or _NEWCOMERS_S)
                asyncio.get_running_loop().call_later(delay_s, self._look_at_newcomers)
            self._newcomers.add(connection)

    def look_again(self, users: Iterable[str]) -> None:
        """Look again soon at who they are and at all that they may do.

        Args:
            users: Primary keys as text.
        """
        self._entirely.update(users)
        self._start()

    def _heard(self, event: ControlEvent) -> None:
        if event.kind == "all":
            self.heard += 1
            self.look_again(self._open.users)
        elif event.kind == "refresh":
            self.heard += 1
            self.look_again(user for user in event.users if self._open.of_user(user))

    def _visit(self, is_due: Callable[[str], bool]) -> None:
        lost = self._engine.metrics["redis_connections_lost"]
        if lost != self._lost and self._engine.hub.broker.is_connected:
            # Those who could not reach Redis meanwhile said nothing, and left no gap.
            self._lost, self._entire_turns = lost, PARTS
        users = [user for user in self._open.users if is_due(user)]
        if self._entire_turns:
            self._entire_turns -= 1
            self.look_again(users)
        else:
            self._users.update(users)
            self._start()

    def _look_at_newcomers(self) -> None:
        self._due |= self._newcomers
        self._newcomers.clear()
        self._start()

    # -- when it is due ------------------------------------------------------------------

    def _arm(self, connection: Connection) -> None:
        standing = connection.standing
        if standing is None or not standing.expires_at or connection in self._armed:
            return
        grace_s = 0.0
        if not standing.session_key:
            grace_s = self._engine.config.limits.live_expiry_grace_s
        left_s = standing.expires_at + grace_s - time.time()
        delay_s = min(_AHEAD_S, max(_LEAST_S if standing.session_key else 0.0, left_s))
        self._armed.add(connection)
        asyncio.get_running_loop().call_later(delay_s, self._reached, connection)

    def _reached(self, connection: Connection) -> None:
        self._armed.discard(connection)
        standing = connection.standing
        if connection not in self._open or standing is None:
            return
        if standing.session_key and standing.expires_at <= time.time():
            # Unless it was renewed meanwhile.
            self._due.add(connection)
            self._start()
        elif standing.session_key:
            self._arm(connection)
        else:
            self._token_reached(connection, standing.expires_at)

    def _token_reached(self, connection: Connection, expires_at: float) -> None:
        grace_s = self._engine.config.limits.live_expiry_grace_s
        if expires_at + grace_s <= time.time():
            self._engine.metrics.count("connections_expired")
            connection.disconnect(Disconnects.EXPIRED)
        else:
            self._arm(connection)

    # -- looking -------------------------------------------------------------------------

    def _start(self) -> None:
        if self._is_closed or self._task is not None:
            return
        if self._users or self._entirely or self._due:
            self._task = asyncio.create_task(self._work(), name="redis-pubsub-rechecks")

    async def _work(self) -> None:
        try:
            while self._users or self._entirely or self._due:
                entirely, self._entirely = self._entirely, set()
                users, self._users = self._users - entirely, set()
                due, self._due = self._due, set()
                failed = await self._look(entirely, entirely=True)
                self._entirely |= failed
                wanted = [each for user in users for each in self._open.of_user(user)]
                again = await self._judge([*due, *wanted])
                self._due |= again
                if failed or again:
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._task = None

    async def _look(self, users: set[str], *, entirely: bool) -> set[str]:
        """Look at users and at what they may do; those for whom it failed."""
        failed: set[str] = set()
        waiting = sorted(users)
        while waiting:
            asked: list[Connection] = []
            part: list[str] = []
            while waiting and len(asked) < CONNECTIONS_PER_QUERY:
                part.append(waiting.pop())
                asked += self._open.of_user(part[-1])
            if await self._judge(asked):
                failed.update(part)
            elif self.follow is not None:
                stay = {
                    each.standing.user_id: each.standing.user
                    for each in asked
                    if each in self._open and each.standing is not None
                }
                failed |= await self.follow(stay)
        return failed

    async def _judge(self, connections: list[Connection]) -> set[Connection]:
        """End those that may not stay; those of whom that cannot be said now."""
        failed: set[Connection] = set()
        for begin in range(0, len(connections), CONNECTIONS_PER_QUERY):
            asked = [
                (each, each.standing)
                for each in connections[begin : begin + CONNECTIONS_PER_QUERY]
                if each.standing is not None and each in self._open
            ]
            if not asked:
                continue
            try:
                verdicts = await self._engine.orm.run(judge, [each for _, each in asked])
            except Exception:
                self._engine.metrics.count("refresh_errors")
                logger.exception("who may stay could not be looked up; trying again")
                failed.update(each for each, _ in asked)
                continue
            for (connection, standing), verdict in zip(asked, verdicts, strict=True):
                if connection.standing is not standing or connection not in self._open:
                    # It has shown something newer meanwhile.
                    continue
                if verdict.code is not None:
                    self._engine.metrics.count("connections_revoked")
                    connection.disconnect(verdict.code)
                    continue
                if verdict.user is not None:
                    standing.user = verdict.user
                if standing.session_key:
                    standing.expires_at = verdict.expires_at
                    self._arm(connection)
        return failed

    async def _close(self) -> None:
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
