"""Receipts on their way to the database: off the loop, many in one insert.

Bounded: beyond 10,000 that wait, new ones are dropped and counted. A database that does
not answer delays them; after a minute a batch is given up, counted too. Whatever is
dropped makes a publication undelivered again: it comes once more, it is not lost.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db import DataError, IntegrityError, InterfaceError, OperationalError

from ..exceptions import PoolBusy
from ..metrics import Occasionally
from ..receipts import Receipt, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine import Engine

logger = logging.getLogger("redis_pubsub.readers")

RECEIPTS_MOST = 10_000
BATCH = 1_000
GATHER_S = 0.02
RETRY_FIRST_S = 0.25
RETRY_MOST_S = 8.0
RETRY_FOR_S = 60.0
CLOSE_S = 5.0

_PASSING = (OperationalError, InterfaceError, PoolBusy)
# One receipt of a batch may be at fault, as when its channel was deleted meanwhile.
_OF_ONE = (IntegrityError, DataError)


class Recorder:
    """Writes the receipts of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Ordered, and two tabs of a user need one place.
        self._waiting: dict[Receipt, None] = {}
        self._in_hand: Sequence[Receipt] = ()
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._may_log = Occasionally()
        engine.closing.push_async_callback(self._close)

    def add(self, receipt: Receipt) -> None:
        """Write a receipt soon."""
        if receipt in self._waiting:
            return
        if len(self._waiting) >= RECEIPTS_MOST or self._closing.is_set():
            self._drop(1, "too many wait")
            return
        self._waiting[receipt] = None
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="redis-pubsub-receipts")

    def unwritten(self, subscriber: Any) -> list[Receipt]:
        """A user's receipts that the database may not have yet."""
        return [
            receipt
            for receipt in (*self._in_hand, *self._waiting)
            if receipt.subscriber == subscriber
        ]

    async def _run(self) -> None:
        try:
            await self._pause(GATHER_S)
            while self._waiting:
                self._in_hand = tuple(islice(self._waiting, BATCH))
                for receipt in self._in_hand:
                    del self._waiting[receipt]
                await self._write(self._in_hand)
                self._in_hand = ()
        finally:
            self._task = None

    async def _write(self, batch: Sequence[Receipt]) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + RETRY_FOR_S
        delay = RETRY_FIRST_S
        while True:
            try:
                await self._engine.orm.run(record, batch)
            except _PASSING as error:
                if self._closing.is_set() or loop.time() + delay > give_up_at:
                    self._drop(len(batch), error)
                    return
                self._engine.metrics.count("receipts_retried", len(batch))
                await self._pause(delay)
                delay = min(2 * delay, RETRY_MOST_S)
            except _OF_ONE as error:
                if len(batch) == 1:
                    self._drop(1, error)
                    return
                half = len(batch) // 2
                await self._write(batch[:half])
                await self._write(batch[half:])
                return
            except Exception as error:
                self._drop(len(batch), error)
                return
            else:
                return

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the engine is about to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def _drop(self, amount: int, why: BaseException | str) -> None:
        self._engine.metrics.count("receipts_dropped", amount)
        if self._may_log("dropped"):
            error = why if isinstance(why, BaseException) else None
            logger.error("%d receipt(s) were not written: %s", amount, why, exc_info=error)

    async def _close(self) -> None:
        """Write what waits, each batch tried once more."""
        self._closing.set()
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=CLOSE_S)
        for task in late:
            task.cancel()
            await asyncio.wait([task])
            self._drop(len(self._in_hand) + len(self._waiting), "the process ends")
