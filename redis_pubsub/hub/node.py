"""A process as one node of the lists in Redis: writing batches, and beginning anew.

If the node is found gone (Redis lost its data, or the process slept and was given up for
dead), the process begins another one and writes all its members again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Container, Sequence

from ..broker.presence import Change, PresenceStore
from ..exceptions import BrokerUnavailable
from ..metrics import Metrics
from .roster import Key, Roster

CHANGES_AT_ONCE = 500
"""Members in one round trip."""


class Node:
    """What one process has written. Used by one task at a time.

    Args:
        store: Keeps the lists.
        metrics: Where rewrites are counted.
        roster: Who is to be there.
        lingering: Those of them who have left and may come back.
        name: Id of the process.
        ttl_s: A process silent for so long is dead.
        rewrite_s: How often all members are written again.
    """

    def __init__(
        self,
        store: PresenceStore,
        metrics: Metrics,
        roster: Roster,
        lingering: Container[Key],
        name: str,
        *,
        ttl_s: float,
        rewrite_s: float,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._roster = roster
        self._lingering = lingering
        self._name = name
        self._ttl_s = ttl_s
        self._rewrite_s = rewrite_s
        self._loop = asyncio.get_running_loop()
        self._rewrite_at = self._loop.time() + rewrite_s
        self._id = ""
        self._begun = 0
        self._must_rewrite = False
        self._may_have_left = False
        self._is_abandoned = False

    def abandon(self) -> None:
        """Let the node of now die, and what is not rewritten be reaped with it."""
        self._is_abandoned = True

    async def step(self) -> None:
        """Write one batch of the roster; a heartbeat too, also if the batch is empty.

        Raises:
            BrokerUnavailable: Redis did not answer. The roster has been told.
        """
        if self._is_abandoned:
            self._is_abandoned = False
            self._id = ""
            self._must_rewrite = self._begun > 0
        if self._loop.time() > self._rewrite_at:
            self._must_rewrite = True
        batch = self._roster.take(CHANGES_AT_ONCE)
        try:
            if not self._id:
                await self._begin()
            if self._must_rewrite:
                # Asked first: members that are written again for a node that is gone
                # would be there, unseen, and not join.
                if not await self._write(()):
                    await self._begin()
                await self._rewrite(besides=batch.entries)
            if not await self._write(batch.changes(self._id), batch.emptied):
                await self._begin()
                await self._rewrite()
        except BaseException as error:
            # A Redis that failed over may have lost what was written last.
            self._must_rewrite = True
            self._roster.failed(batch, _unavailable(error))
            raise
        self._roster.written(batch)

    async def leave(self, linger_s: float) -> None:
        """End the node now, or, if members linger, when they have lingered."""
        if not self._id:
            return
        if linger_s > 0:
            await self._store.write(self._id, linger_s)
        else:
            await self._store.end(self._id)

    async def _write(
        self, changes: Sequence[Change], emptied: Collection[str] = ()
    ) -> bool:
        return await self._store.write(self._id, self._ttl_s, changes, emptied=emptied)

    async def _begin(self) -> None:
        self._begun += 1
        node = f"{self._name}.{self._begun}"
        if await self._store.begin(node, self._ttl_s, replaces=self._id):
            self._may_have_left = True
        self._id = node

    async def _rewrite(self, besides: Container[Key] = ()) -> None:
        while not await self._is_rewritten(besides):
            await self._begin()
        self._must_rewrite = self._may_have_left = False
        self._rewrite_at = self._loop.time() + self._rewrite_s

    async def _is_rewritten(self, besides: Container[Key]) -> bool:
        keys = self._roster.keys
        if self._may_have_left:
            # The leave of those who linger was announced, and was due anyway.
            keys = [key for key in keys if key not in self._lingering]
        if keys:
            self._metrics.count("presence_rewritten")
        for begin in range(0, len(keys), CHANGES_AT_ONCE):
            changes = self._roster.again(
                keys[begin : begin + CHANGES_AT_ONCE],
                self._id,
                besides,
                joining=self._may_have_left,
            )
            if not await self._write(changes):
                return False
        return True


def _unavailable(error: BaseException) -> BrokerUnavailable:
    if isinstance(error, BrokerUnavailable):
        return error
    return BrokerUnavailable(f"presence could not be written: {error!r}")
