"""The only door between the event loop and the ORM.

Work runs in a bounded pool of threads of its own; around each piece, connections that
are broken or too old are closed, so that a database restart heals. Coroutines that use
the ORM's own async names (``await user.subscriptions.aget(…)``) are led into the same
pool by `Orm.adopt`, where one slow query does not queue everybody else's.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections

from .exceptions import PoolBusy

P = ParamSpec("P")
T = TypeVar("T")


# How long closing waits for calls that run: a database that hangs holds up no shutdown.
_CLOSE_S = 2.0


class _Pool(ThreadPoolExecutor):
    """Threads with healthy database connections and a bounded queue."""

    def __init__(self, threads: int, waiting: int) -> None:
        super().__init__(max_workers=threads, thread_name_prefix="redis-pubsub-db")
        self._waiting = waiting
        self.unfinished: set[Future[Any]] = set()

    @property
    def waiting(self) -> int:
        return self._work_queue.qsize()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._work_queue.qsize() >= self._waiting:
            raise PoolBusy(f"{self._waiting} database calls wait for a thread already")
        future = super().submit(_healthy, fn, *args, **kwargs)
        self.unfinished.add(future)
        future.add_done_callback(self.unfinished.discard)
        return future


def _healthy(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


class Orm:
    """Runs blocking database work for one event loop.

    Args:
        threads: How many pieces of work run at once.
        waiting: How many may wait; beyond that `PoolBusy`.
        in_test_thread: Run everything in the thread that owns the test's database
            connection instead, so that a ``TestCase``'s transaction is seen.
    """

    def __init__(self, threads: int, waiting: int, *, in_test_thread: bool = False) -> None:
        self.in_test_thread = in_test_thread
        self._pool: _Pool | None = None
        self._closed: _Pool | None = None
        self._threads = threads
        self._waiting = waiting
        self._context = ThreadSensitiveContext()

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._pool.waiting if self._pool is not None else 0

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in a thread and await its result.

        Raises:
            PoolBusy: Too many calls wait already.
        """
        if self.in_test_thread:
            return await sync_to_async(function, thread_sensitive=True)(*args, **kwargs)
        context = contextvars.copy_context()
        future = self._opened().submit(context.run, function, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def adopt(self) -> None:
        """Make the running task's async ORM calls use this pool.

        Without it asgiref runs all of them in one thread of the whole process.
        """
        if not self.in_test_thread:
            self._opened()
            SyncToAsync.thread_sensitive_context.set(self._context)

    def close(self) -> None:
        """Take no more work; what runs goes on until it ends."""
        SyncToAsync.context_to_thread_executor.pop(self._context, None)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._closed, self._pool = self._pool, None

    async def wait_closed(self) -> None:
        """After `close`: wait for what runs, `_CLOSE_S` seconds at the most."""
        if self._closed is not None and self._closed.unfinished:
            running = (asyncio.wrap_future(each) for each in list(self._closed.unfinished))
            over = asyncio.gather(*running, return_exceptions=True)
            await asyncio.wait([over], timeout=_CLOSE_S)
        self._closed = None

    def _opened(self) -> _Pool:
        # Threads start with the first call, never before a fork.
        if self._pool is None:
            self._pool = _Pool(self._threads, self._waiting)
            SyncToAsync.context_to_thread_executor[self._context] = self._pool
        return self._pool
