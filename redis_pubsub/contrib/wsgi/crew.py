"""The threads that work, and how many of them do so at once.

All take jobs from one queue, but only those on duty do, as many as `Pace` says: a thread
goes from one job to the next without waiting for the event loop. A job that waits for
something, or takes long, is set apart: its thread rests when it is done, and another one
comes on duty at once. So no job, whatever it does, keeps others from running.

Duty changes on the event loop only, so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic

from ...metrics import Occasionally
from .pace import LOOK_S, Meter, Pace, Window, is_slow, threads_share_a_lock
from .work import Answer, Job

logger = logging.getLogger("redis_pubsub.wsgi")


class Worker(Generic[Answer]):
    """A thread.

    Attributes:
        is_on_duty: Set by the loop while the thread may take more jobs.
        job: Set by the thread: what it works on.
        meter: Set by the thread: what it uses.
    """

    __slots__ = ("is_on_duty", "job", "meter")

    def __init__(self) -> None:
        self.is_on_duty = threading.Event()
        self.is_on_duty.set()
        self.job: Job[Answer] | None = None
        self.meter: Meter | None = None

    def read(self) -> tuple[float, float]:
        """See `Meter.read`."""
        return (0.0, 0.0) if self.meter is None else self.meter.read()


class Crew(Generic[Answer]):
    """Threads, started when first needed; they die with the process.

    Args:
        most: On duty at once.
        perform: Does a job, in a thread. Raises nothing.
    """

    def __init__(self, most: int, perform: Callable[[Job[Answer]], None]) -> None:
        self._perform = perform
        self._is_limited = threads_share_a_lock()
        self._pace = Pace(most, is_limited=self._is_limited)
        self._queue: SimpleQueue[Job[Answer] | None] = SimpleQueue()
        self._counted: set[Job[Answer]] = set()
        self._on_duty: list[Worker[Answer]] = []
        self._off_duty: list[Worker[Answer]] = []
        self._next_look: asyncio.TimerHandle | None = None
        self._looked = (0.0, 0.0, 0.0)
        self._next_try: asyncio.TimerHandle | None = None
        self._may_log = Occasionally()

    @property
    def limit(self) -> int:
        """How many jobs may run at once, at this moment, those apart not counted."""
        return self._pace.limit

    @property
    def held(self) -> int:
        """Jobs that no thread has begun."""
        return self._queue.qsize()

    def put(self, job: Job[Answer]) -> None:
        """Have it done. The caller bounds how many there are."""
        self._counted.add(job)
        self._queue.put(job)
        self._staff()

    def set_apart(self, job: Job[Answer]) -> None:
        """Let others run as if it were not there; only for a job that has begun."""
        self._discount(job)
        self._staff()

    def forget(self, job: Job[Answer]) -> None:
        """It is done."""
        self._counted.discard(job)

    def close(self) -> None:
        """Let threads end when they have nothing to do."""
        for timer in (self._next_look, self._next_try):
            if timer is not None:
                timer.cancel()
        for worker in (*self._on_duty, *self._off_duty):
            self._queue.put(None)
            worker.is_on_duty.set()
        self._on_duty, self._off_duty = [], []

    def _staff(self) -> None:
        """Have as many threads on duty as may run at once."""
        while len(self._on_duty) > self._pace.limit:
            self._dismiss(self._on_duty[-1])
        while len(self._on_duty) < min(self._pace.limit, len(self._counted)):
            worker = self._rested() or self._hired()
            if worker is None:
                self._staff_soon()
                break
            self._on_duty.append(worker)
            worker.is_on_duty.set()
        if self._is_limited and self._next_look is None and len(self._counted) > 1:
            for worker in self._on_duty:
                worker.read()
            self._looked = clocks()
            self._next_look = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _staff_soon(self) -> None:
        """Try again: by then a thread may rest, or the system give one."""
        if self._next_try is None:
            self._next_try = asyncio.get_running_loop().call_later(LOOK_S, self._try_again)

    def _try_again(self) -> None:
        self._next_try = None
        self._staff()

    def _look(self) -> None:
        """See how busy threads are, and whether more or fewer of them do better."""
        self._next_look = None
        looked = clocks()
        wall_s, process_s, loop_s = (
            now - before for before, now in zip(self._looked, looked, strict=True)
        )
        busy = []
        for worker in (*self._on_duty, *self._off_duty):
            job = worker.job
            if job is not None and job in self._counted:
                busy.append((job, *worker.read()))
        # Not the sum: while two wait for a core, it is still one core that is missing.
        queued_s = max((queued_s for _, _, queued_s in busy), default=0.0)
        window = Window(wall_s, process_s, loop_s, queued_s)
        self._pace.adapt(window, has_waiting=self.held > 0)
        for job, used_s, queued_s in busy:
            age_s = looked[0] - job.began_at
            if is_slow(window, used_s=used_s, queued_s=queued_s, age_s=age_s):
                self._discount(job)
        self._staff()

    def _discount(self, job: Job[Answer]) -> None:
        """Have its thread rest afterwards; `_staff` sends another."""
        self._counted.discard(job)
        for worker in self._on_duty:
            if worker.job is job:
                self._dismiss(worker)
                break

    def _dismiss(self, worker: Worker[Answer]) -> None:
        """Let a thread rest, after what it works on."""
        worker.is_on_duty.clear()
        self._on_duty.remove(worker)
        self._off_duty.append(worker)

    def _rested(self) -> Worker[Answer] | None:
        """A thread off duty that has no job, or one that counts."""
        for worker in reversed(self._off_duty):
            job = worker.job
            if job is None or job in self._counted:
                self._off_duty.remove(worker)
                return worker
        return None

    def _hired(self) -> Worker[Answer] | None:
        """A new thread, if the system gives one."""
        worker: Worker[Answer] = Worker()
        number = len(self._on_duty) + len(self._off_duty) + 1
        name = f"redis_pubsub-wsgi-{number}"
        try:
            threading.Thread(
                target=self._serve, args=(worker,), name=name, daemon=True
            ).start()
        except RuntimeError:
            if self._may_log("no thread"):
                logger.exception("no thread can be started; a request waits for one")
            return None
        return worker

    def _serve(self, worker: Worker[Answer]) -> None:
        """A thread's life."""
        if self._is_limited:
            worker.meter = Meter()
        while True:
            worker.is_on_duty.wait()
            job = self._queue.get()
            if job is None:
                break
            job.began_at = time.monotonic()
            worker.job = job
            self._perform(job)
            # An idle thread must not keep the last request alive.
            worker.job = None
            del job
        if worker.meter is not None:
            worker.meter.close()


def clocks() -> tuple[float, float, float]:
    """Seconds of the wall, of the process' CPU, and of this thread's."""
    return time.monotonic(), time.process_time(), time.thread_time()
