"""Threads for an application that blocks, counted so that nothing grows without end.

Work runs at once, waits its turn, or is refused. Work that turns out to be a long
stream says so and is then counted apart: it makes room for the next piece of work.
Counts change on the event loop only, so there are no locks. Knows no HTTP, and leaves
to `crew` how many threads run at once of those that may.

Not a ``ThreadPoolExecutor``: that one's queue has no bound, and its threads keep a
process from ending for as long as one of them hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic

from .crew import Crew
from .work import Answer, Job, Work

logger = logging.getLogger("redis_pubsub.wsgi")


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool does at this moment.

    Attributes:
        running: Pieces of work in a thread, streams not counted.
        waiting: Pieces that wait for a thread.
        streams: Streams in a thread.
        limit: How many pieces run at once before one that computes has to wait; those
            that wait for something themselves are not counted.
    """

    running: int
    waiting: int
    streams: int
    limit: int


class PoolFull(Exception):
    """Too much waits already, or the pool is closed."""


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
        self._waiting: deque[Job[Answer]] = deque()
        self._started: set[Job[Answer]] = set()
        self._streams = 0
        self._is_closed = False
        self._became_idle: asyncio.Event | None = None
        self._crew: Crew[Answer] = Crew(threads, self._perform)

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
        held = min(self._running, self._crew.held)
        waiting = len(self._waiting) + held
        return Load(self._running - held, waiting, self._streams, self._crew.limit)

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
        self._crew.close()
        return len(self._started)

    def _start(self, job: Job[Answer]) -> None:
        self._started.add(job)
        self._crew.put(job)

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

    def _perform(self, job: Job[Answer]) -> None:
        """Do a job, in a thread."""
        loop = job.answer.get_loop()
        if not job.work.is_wanted():
            self._post(loop, self._drop, job)
            return
        announce = partial(self._post, loop, self._become_stream, job)
        try:
            answer = job.context.run(job.work.run, announce)
        except BaseException:
            logger.exception("work in a thread failed without answering")
            self._post(loop, self._finish, job, None)
        else:
            self._post(loop, self._finish, job, answer)

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
            self._crew.set_apart(job)
            self._start_waiting()

    def _drop(self, job: Job[Answer]) -> None:
        """Its client left while it was held."""
        self._refuse(job)
        self._finish(job, None)

    def _finish(self, job: Job[Answer], answer: Answer | None) -> None:
        self._started.discard(job)
        self._crew.forget(job)
        self._streams -= job.is_stream
        if not job.answer.done():
            if answer is None:
                job.answer.set_exception(RuntimeError("no answer; see the log"))
            else:
                job.answer.set_result(answer)
        self._start_waiting()
        if self._became_idle is not None and not self._started:
            self._became_idle.set()
