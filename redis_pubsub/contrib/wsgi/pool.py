"""Threads for an application that blocks, counted so that nothing grows without end.

Work runs at once, waits its turn, or is refused. Work that turns out to be a long
stream says so and is then counted apart: it makes room for the next piece of work.
Counts change on the event loop only, so there are no locks. Knows no HTTP.

Not a ``ThreadPoolExecutor``: that one's queue has no bound, and its threads keep a
process from ending for as long as one of them hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger("redis_pubsub.wsgi")

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool does at this moment.

    Attributes:
        running: Pieces of work in a thread, streams not counted.
        waiting: Pieces that wait for a thread.
        streams: Streams in a thread.
    """

    running: int
    waiting: int
    streams: int


class PoolFull(Exception):
    """Too much waits already, or the pool is closed."""


class Work(Protocol[Answer_co]):
    """Something that a thread does."""

    def run(self, announce: Callable[[Answer_co], None], /) -> Answer_co:
        """Do it, in a thread; ``announce`` answers early and makes it a stream."""

    def is_wanted(self) -> bool:
        """Whether it is still worth starting."""

    def abandon(self) -> None:
        """Nobody waits for the answer: stop at the next occasion."""

    def discard(self) -> None:
        """It will never run: free what it holds."""


class Job(Generic[Answer]):
    """A piece of work, where it stands, and the future of its answer."""

    __slots__ = ("answer", "context", "is_stream", "work")

    def __init__(self, work: Work[Answer], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.context = copy_context()
        self.is_stream = False


class ThreadPool(Generic[Answer]):
    """Runs work in threads that are started when first needed.

    Args:
        threads: Pieces of work at once, streams not counted.
        max_waiting: Pieces that may wait.
        max_streams: Streams at once.
    """

    def __init__(self, *, threads: int, max_waiting: int, max_streams: int) -> None:
        self._max_running = threads
        self._max_waiting = max_waiting
        self._max_streams = max_streams
        self._queue: SimpleQueue[Job[Answer] | None] = SimpleQueue()
        self._waiting: deque[Job[Answer]] = deque()
        self._started: set[Job[Answer]] = set()
        self._streams = 0
        self._threads = 0
        self._is_closed = False
        self._became_idle: asyncio.Event | None = None

    @property
    def is_full(self) -> bool:
        """Whether `submit` would refuse."""
        if self._is_closed:
            return True
        if self._running < self._max_running or len(self._waiting) < self._max_waiting:
            return False
        self._drop_unwanted()
        return len(self._waiting) >= self._max_waiting

    @property
    def load(self) -> Load:
        """How busy the pool is."""
        return Load(self._running, len(self._waiting), self._streams)

    @property
    def _running(self) -> int:
        return len(self._started) - self._streams

    def submit(self, work: Work[Answer]) -> asyncio.Future[Answer]:
        """Have work done, now or when its turn comes.

        Returns:
            Its answer. A future that is cancelled does not stop work that runs.

        Raises:
            PoolFull: Try again later; the work is discarded.
        """
        if self.is_full:
            work.discard()
            raise PoolFull
        job = Job(work, asyncio.get_running_loop())
        if self._running < self._max_running:
            self._start(job)
        else:
            self._waiting.append(job)
        return job.answer

    async def close(self, timeout_s: float) -> int:
        """Take nothing new, stop streams, wait for the rest.

        Returns:
            How many pieces of work still run. Their threads die with the process.
        """
        self._is_closed = True
        while self._waiting:
            self._refuse(self._waiting.popleft())
        for job in self._started:
            if job.is_stream:
                job.work.abandon()
        if self._started:
            self._became_idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._became_idle.wait()
        while self._threads:
            self._threads -= 1
            self._queue.put(None)
        return len(self._started)

    def _start(self, job: Job[Answer]) -> None:
        self._started.add(job)
        if self._threads < len(self._started):
            self._threads += 1
            threading.Thread(
                target=self._serve,
                args=(asyncio.get_running_loop(),),
                name=f"redis_pubsub-wsgi-{self._threads}",
                daemon=True,
            ).start()
        self._queue.put(job)

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._max_running:
            job = self._waiting.popleft()
            if job.work.is_wanted():
                self._start(job)
            else:
                self._refuse(job)

    def _drop_unwanted(self) -> None:
        jobs, self._waiting = self._waiting, deque()
        for job in jobs:
            if job.work.is_wanted():
                self._waiting.append(job)
            else:
                self._refuse(job)

    def _refuse(self, job: Job[Answer]) -> None:
        job.work.discard()
        if not job.answer.done():
            job.answer.set_exception(PoolFull())

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """A thread's life."""
        while (job := self._queue.get()) is not None:
            announce = partial(self._post, loop, self._become_stream, job)
            try:
                answer = job.context.run(job.work.run, announce)
            except BaseException:
                logger.exception("work in a thread failed without answering")
                self._post(loop, self._finish, job, None)
            else:
                self._post(loop, self._finish, job, answer)
            # An idle thread must not keep the last request alive.
            del job, announce
            answer = None  # type: ignore[assignment]

    def _post(
        self, loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object
    ) -> None:
        # A closed loop has nobody left who waits for an answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(callback, *args)

    def _become_stream(self, job: Job[Answer], answer: Answer) -> None:
        if job.answer.done():
            job.work.abandon()
        elif self._is_closed or self._streams >= self._max_streams:
            job.answer.set_exception(PoolFull())
            job.work.abandon()
        else:
            job.is_stream = True
            self._streams += 1
            job.answer.set_result(answer)
            self._start_waiting()

    def _finish(self, job: Job[Answer], answer: Answer | None) -> None:
        self._started.discard(job)
        self._streams -= job.is_stream
        if not job.answer.done():
            if answer is None:
                job.answer.set_exception(RuntimeError("no answer; see the log"))
            else:
                job.answer.set_result(answer)
        self._start_waiting()
        if self._became_idle is not None and not self._started:
            self._became_idle.set()
