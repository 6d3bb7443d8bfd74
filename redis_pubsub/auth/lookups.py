"""Looks up in the database by key; those who wait at the same time share a query.

When a server comes back, thousands of clients do so at once, each with a token. One query
and one change of thread for each would be most of what letting them in costs.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

from ..db import Orm
from ..exceptions import PoolBusy

_AT_ONCE = 4
"""Queries of one kind that run at once, at most."""
_PATIENCE_S = 0.05
"""For so long who comes waits for the query that runs; then there is another, so that one
that hangs does not hold up everybody."""
_GATHER_S = 0.01
"""Least time between two queries that follow each other: in a storm the ten milliseconds
are nobody's trouble, and many share a query that would have been for two or three."""
_MOST_KEYS = 200
"""Keys of one query; databases bound the parameters of a statement."""

One = Callable[[str], Any]
Many = Callable[[list[str]], Mapping[str, Any]]


class Lookups:
    """Answers for one kind of key.

    Args:
        orm: Runs the queries.
        one: The answer for a key, or ``None``; may raise.
        many: The answers for several keys, those left out that have none.
        waiting: How many may wait; beyond that `PoolBusy`.
    """

    def __init__(self, orm: Orm, one: One, many: Many, *, waiting: int) -> None:
        self._orm = orm
        self._one = one
        self._many = many
        self._most_waiting = waiting
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._began_at = 0.0

    async def get(self, key: str) -> Any:
        """The answer for a key. No two callers get the same object.

        Raises:
            PoolBusy: Too many wait already.
            Exception: What ``one`` raises for this key.
        """
        if not self._running and self._gathering is None:
            self._begin([(key, answer := _new_future())])
        elif len(self._waiting) >= self._most_waiting:
            raise PoolBusy(f"{len(self._waiting)} wait for the database already")
        else:
            self._waiting.append((key, answer := _new_future()))
            self._be_patient()
        return await answer

    def _be_patient(self) -> None:
        if self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(_PATIENCE_S, self._lost_patience)

    def _lost_patience(self) -> None:
        self._patience = None
        if len(self._running) < _AT_ONCE:
            self._begin_next()
        if self._waiting:
            self._be_patient()

    def _begin(self, asked: list[tuple[str, asyncio.Future[Any]]]) -> None:
        self._began_at = asyncio.get_running_loop().time()
        task = asyncio.create_task(self._answer(asked), name="redis-pubsub-lookup")
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._gather()
            return
        # The pool is closed: there will be no answers.
        for _, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()

    def _gather(self) -> None:
        """A query has ended: begin the next, for those who wait or will in a moment."""
        if not self._waiting or self._gathering is not None:
            return
        loop = asyncio.get_running_loop()
        due = self._began_at + _GATHER_S
        if loop.time() >= due:
            self._begin_next()
        else:
            self._gathering = loop.call_at(due, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._begin_next()

    def _begin_next(self) -> None:
        # Who went away meanwhile is not looked up.
        waiting = [each for each in self._waiting if not each[1].done()]
        batch, self._waiting = waiting[:_MOST_KEYS], waiting[_MOST_KEYS:]
        if batch:
            self._begin(batch)

    async def _answer(self, asked: list[tuple[str, asyncio.Future[Any]]]) -> None:
        try:
            if len(asked) > 1 and await self._answer_together(asked):
                return
            for key, answer in asked:
                await self._answer_one(key, answer)
        finally:
            # Only where this task is ended from outside.
            for _, answer in asked:
                answer.cancel()

    async def _answer_together(self, asked: list[tuple[str, asyncio.Future[Any]]]) -> bool:
        """Whether one query answered; if it fails, each is asked for itself, so that a
        bad key is nobody's trouble but its sender's."""
        keys = list(dict.fromkeys(key for key, _ in asked))
        try:
            found = dict(await self._orm.run(self._many, keys))
        except Exception:
            return False
        taken = set()
        for key, answer in asked:
            if answer.done():
                continue
            value = found.get(key)
            answer.set_result(copy.copy(value) if key in taken else value)
            taken.add(key)
        return True

    async def _answer_one(self, key: str, answer: asyncio.Future[Any]) -> None:
        try:
            found = await self._orm.run(self._one, key)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(found)


def _new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
