"""Presence of one process: enters and exits in batches, the heartbeat, the reaper.

A process is a node in Redis: one key with a time to live, refreshed by every batch and
otherwise by a heartbeat. Who is a member, and with which options, is decided above.
Contract: docs/topics/presence.rst.
"""

from __future__ import annotations

import asyncio
import logging
import random

from ..broker import Broker
from ..broker.presence import Counts, Member
from ..exceptions import BrokerUnavailable
from ..metrics import Metrics
from .node import Node
from .roster import Entry, Key, Roster

logger = logging.getLogger("redis_pubsub.presence")

PENDING_MOST = 100_000
"""With more members than this that have left and could not be written, the node is given
up: the reaper then finds them."""
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MOST_S = 2.0
_HOLD_OFF = 0.8
_STOPPING = "this process is stopping"


class Presence:
    """Who is connected to this process, as others see it.

    Nothing runs until the first member enters or somebody asks who is there.

    Args:
        broker: Keeps the lists.
        metrics: Where failures are counted.
        name: Id of the process, never used before.
        ttl_s: A process silent for so long is dead.
        heartbeat_s: How long a process is silent at most, give or take a fifth.
        reap_s: How often it looks for others that died, give or take a fifth.
        rewrite_s: How often it writes all its members again, so that what Redis lost
            unnoticed comes back and keys do not expire.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        name: str,
        *,
        ttl_s: float = 20.0,
        heartbeat_s: float = 6.0,
        reap_s: float = 5.0,
        rewrite_s: float = 86_400.0,
    ) -> None:
        self._store = broker.presence
        self._metrics = metrics
        self._name = name
        self._heartbeat_s = heartbeat_s
        self._reap_s = reap_s
        self._roster = Roster()
        self._lingering: dict[Key, asyncio.TimerHandle] = {}
        self._node = Node(
            self._store,
            metrics,
            self._roster,
            self._lingering,
            name,
            ttl_s=ttl_s,
            rewrite_s=rewrite_s,
        )
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._reaper: asyncio.Task[None] | None = None
        self._failures = 0

    # -- for the floors above ----------------------------------------------------

    async def enter(
        self,
        channel: str,
        client: str,
        user: str,
        info: bytes,
        *,
        by_user: bool = False,
        announce: bool = False,
    ) -> None:
        """Make a connection a member of a channel; on return `members` shows it.

        Args:
            channel: The channel's name.
            client: Id of the connection.
            user: Primary key as text, ``""`` for an anonymous one.
            info: What others see: one line of JSON.
            by_user: Channel option ``presence_by`` is ``"user"``.
            announce: Channel option ``join_leave``.

        Raises:
            BrokerUnavailable: Redis did not answer. The connection is no member, also
                if it was one before.
        """
        if self._closing.is_set():
            raise BrokerUnavailable(_STOPPING)
        key = (channel, client)
        self._stay(key)
        entering = self._roster.enter(key, Entry(user, info, by_user, announce))
        self._start()
        self._changed.set()
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            self.exit(channel, client)
            raise

    def exit(self, channel: str, client: str, *, delay_s: float = 0.0) -> None:
        """End a membership; unknown ones are fine. Told to Redis as soon as it answers.

        Args:
            channel: The channel's name.
            client: Id of the connection.
            delay_s: Channel option ``leave_delay_s``: the member lingers for so long.
                If it enters again in that time, nobody hears of either.
        """
        key = (channel, client)
        if key not in self._roster:
            return
        if delay_s > 0 and not self._closing.is_set():
            if key not in self._lingering:
                self._lingering[key] = self._loop.call_later(delay_s, self._gone, key)
            return
        self._stay(key)
        self._gone(key)

    async def members(self, channel: str) -> list[Member]:
        """Who is on a channel, in all processes, in no order.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        self.watch()
        return await self._store.members(channel)

    async def counts(self, channel: str) -> Counts:
        """How many are on a channel, in all processes.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        self.watch()
        return await self._store.counts(channel)

    def watch(self) -> None:
        """Look for dead processes from now on. For those who only listen to joins and
        leaves; everything else here does it by itself."""
        if not self._closing.is_set() and (self._reaper is None or self._reaper.done()):
            self._reaper = asyncio.create_task(
                self._keep_reaping(), name="redis-pubsub-presence-reaper"
            )

    async def close(self) -> None:
        """Take this process's members out; idempotent.

        Members that linger are left to the reapers of other processes: the node lives
        on as long as the last of them would have lingered.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        self._changed.set()
        tasks = [task for task in (self._writer, self._reaper) if task is not None]
        # Not cancelled: the Redis client sends with `asyncio.wait_for`, which swallows
        # cancellations before Python 3.12. Both tasks look whether they are to end.
        if tasks:
            await asyncio.wait(tasks)
        self._roster.refuse(BrokerUnavailable(_STOPPING))
        for key in self._roster.keys:
            if key not in self._lingering:
                self._roster.exit(key)
        try:
            await self._leave()
        except BrokerUnavailable as error:
            self._metrics.count("presence_failed")
            logger.warning("members are left to be found by other processes: %s", error)
        except Exception:
            self._metrics.count("presence_errors")
            logger.exception("taking the members of this process out failed")

    async def _leave(self) -> None:
        linger_s = 0.0
        for handle in self._lingering.values():
            linger_s = max(linger_s, handle.when() - self._loop.time())
            handle.cancel()
        while self._roster.due:
            await self._node.step()
        await self._node.leave(linger_s)

    # -- members -----------------------------------------------------------------

    def _stay(self, key: Key) -> None:
        lingering = self._lingering.pop(key, None)
        if lingering is not None:
            lingering.cancel()

    def _gone(self, key: Key) -> None:
        self._lingering.pop(key, None)
        self._roster.exit(key)
        if not self._failures:
            self._changed.set()

    def _abandon(self) -> None:
        """Too much waits for Redis: let the node die, and its members be reaped."""
        logger.error(
            "more than %d members that have left wait for Redis; another process will "
            "find them",
            PENDING_MOST,
        )
        self._metrics.count("presence_abandoned")
        self._roster.forget_exits()
        self._node.abandon()

    # -- the writer ----------------------------------------------------------------

    def _start(self) -> None:
        self.watch()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(
                self._keep_written(), name="redis-pubsub-presence"
            )
            self._writer.add_done_callback(self._ended)

    def _ended(self, writer: asyncio.Task[None]) -> None:
        """Nobody must wait for a writer that somebody has ended."""
        if not self._closing.is_set():
            self._roster.refuse(BrokerUnavailable("presence was stopped"))

    async def _keep_written(self) -> None:
        """Owned by `close`. Whatever fails is counted and tried again."""
        while not self._closing.is_set():
            try:
                await self._node.step()
                self._failures = 0
            except BrokerUnavailable as error:
                self._metrics.count("presence_failed")
                self._failures += 1
                if self._failures == 1:
                    logger.warning("presence is not written, trying again: %s", error)
            except Exception:
                self._metrics.count("presence_errors")
                self._failures += 1
                logger.exception("writing presence failed; trying again")
            if self._failures and self._roster.due > PENDING_MOST:
                self._abandon()
            await self._until_due()

    async def _until_due(self) -> None:
        if self._roster.is_awaited or self._closing.is_set():
            return
        if self._failures:
            longest = _BACKOFF_FIRST_S * 2 ** min(self._failures, 10)
            wait_s = min(_BACKOFF_MOST_S, longest) * random.uniform(0.5, 1)
        elif self._roster.due:
            return
        else:
            wait_s = self._heartbeat_s * random.uniform(0.8, 1.2)
        self._changed.clear()
        await _is_set(self._changed, wait_s)

    # -- the reaper ----------------------------------------------------------------

    async def _keep_reaping(self) -> None:
        """Owned by `close`. Whatever fails is counted and tried again."""
        while not await _is_set(self._closing, self._reap_s * random.uniform(0.8, 1.2)):
            try:
                removed = await self._store.reap(self._name, self._reap_s * _HOLD_OFF)
            except BrokerUnavailable:
                self._metrics.count("presence_failed")
            except Exception:
                self._metrics.count("presence_errors")
                logger.exception("looking for dead processes failed; trying again")
            else:
                if removed:
                    self._metrics.count("presence_reaped", removed)
                    logger.info("%d member(s) of dead processes have left", removed)


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event so long; whether it came."""
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False
