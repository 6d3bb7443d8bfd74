"""One worker: takes jobs, has them run, says what became of them.

A job is held by its worker as long as the worker says so every few seconds. Where a worker
falls silent, another takes its jobs over; so a job runs once, and again only where a worker
died, or was cut off, before it could say that the job was done.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Iterable

from ..broker.jobs import End, Taken
from ..consumers import Consumer, by_name
from ..db import Orm
from ..engine import Engine
from ..exceptions import BrokerUnavailable
from ..messages import queue_channel
from ..metrics import Gauge, Occasionally
from ..publishing.publisher import publisher
from .ears import Ears
from .running import Runner

logger = logging.getLogger("redis_pubsub.worker")

POLL_S = 1.0
"""How long a worker that is not woken waits before it looks; it is woken as a rule."""
_BEATS = 4
"""How often a worker says within ``takeover_s`` that it is alive."""
_RETRY_S = (0.1, 2.0)
_RETURN_S = 2.0


class Worker:
    """Runs jobs for an engine.

    Args:
        engine: Broker, counters and settings.
        consumers: What it can do.
        queues: For which of their names; by default for all.
        concurrency: How many jobs at once; with 1, in the order in which they were sent.

    Raises:
        HandlerConfigError: Two consumers have one name.

    Attributes:
        id: Unique.
        left: After `close`: how many jobs did not finish. Threads may still run them.
    """

    def __init__(
        self,
        engine: Engine,
        consumers: Iterable[Consumer],
        *,
        queues: Iterable[str] = (),
        concurrency: int = 4,
    ) -> None:
        self._engine = engine
        self._jobs = engine.hub.broker.jobs
        table = by_name(consumers)
        self._consumers = {name: table[name] for name in queues or table}
        self._queues = sorted(self._consumers)
        self._concurrency = concurrency
        self._options = engine.config.workers
        self.id = f"{engine.node}-{uuid.uuid4().hex[:8]}"
        self._orm = Orm(
            concurrency, 4 * concurrency, in_test_thread=engine.orm.in_test_thread
        )
        self._running: dict[asyncio.Task[None], Taken] = {}
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self.left = 0
        self._ears = Ears(engine.hub, map(queue_channel, self._queues), self._awake.set)
        self._tasks: list[asyncio.Task[None]] = []
        self._runner = Runner(self.id, self._orm, self._options, engine.metrics)
        self._looked_for_silent_at = 0.0
        self._may_log = Occasionally()
        engine.gauges.add(
            Gauge("jobs_running", "Jobs that workers run now", lambda: len(self._running))
        )

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    def start(self) -> None:
        """Begin to take jobs."""
        for loop in (self._take_jobs, self._beat):
            self._tasks.append(
                asyncio.create_task(self._stay_alive(loop), name=f"worker {loop.__name__}")
            )
        self._ears.open()

    async def close(self) -> None:
        """Take no more, let what runs finish for ``stop_s``, give back the rest."""
        self._stopping.set()
        self._awake.set()
        if self._tasks:
            await asyncio.wait(self._tasks[:1])
        if self._running:
            await asyncio.wait(list(self._running), timeout=self._options.stop_s)
        if self._running:
            await self._give_back()
        if self._tasks:
            self._tasks[1].cancel()
            await asyncio.wait(self._tasks, timeout=_RETURN_S)
        self._ears.close()
        self._orm.close()
        await self._orm.wait_closed()

    async def _give_back(self) -> None:
        logger.warning(
            "%d job(s) did not finish in %s s; another worker gets them",
            len(self._running),
            self._options.stop_s,
        )
        self._runner.is_returning = True
        self.left = len(self._running)
        for task in list(self._running):
            task.cancel()
        await asyncio.wait(list(self._running), timeout=_RETURN_S)

    async def _stay_alive(self, loop: object) -> None:
        """Run one of the loops; one that fails is told, and begun anew."""
        assert callable(loop)
        while not self._stopping.is_set() or loop == self._beat:
            try:
                await loop()
                return
            except Exception:
                self._engine.metrics.count("worker_errors")
                logger.exception("a worker stumbled; it goes on")
                await asyncio.sleep(_RETRY_S[0])

    # -- taking --------------------------------------------------------------------------

    async def _take_jobs(self) -> None:
        retry_s = _RETRY_S[0]
        while not self._stopping.is_set():
            self._awake.clear()
            free = self._concurrency - len(self._running)
            if free <= 0:
                await self._awake.wait()
                continue
            try:
                wait_s = await self._take(free)
                retry_s = _RETRY_S[0]
            except BrokerUnavailable as error:
                self._engine.metrics.count("worker_unavailable")
                if self._may_log("unavailable"):
                    logger.warning("no jobs to be had: %s; trying again", error)
                wait_s = retry_s * random.uniform(0.5, 1.5)
                retry_s = min(_RETRY_S[1], 2 * retry_s)
            if wait_s:
                await self._doze(wait_s)

    async def _take(self, free: int) -> float:
        """Take as many jobs as may run; how long to wait for more."""
        first = random.randrange(len(self._queues))
        queues = [*self._queues[first:], *self._queues[:first]]
        now = time.monotonic()
        is_time = now - self._looked_for_silent_at >= self._options.takeover_s / _BEATS
        silent_s = self._options.takeover_s if is_time else 0.0
        haul = await self._jobs.take(queues, self.id, free, silent_s=silent_s)
        if is_time:
            self._looked_for_silent_at = now
        if haul.expired:
            self._engine.metrics.count("jobs_expired", haul.expired)
        held = {(job.queue, job.entry) for job in self._running.values()}
        for job in haul.jobs:
            if (job.queue, job.entry) in held:
                # This loop stood still for so long that it looks silent to itself.
                continue
            task = asyncio.create_task(self._do(job), name=f"job {job.queue}")
            self._running[task] = job
            task.add_done_callback(self._done)
        if len(haul.jobs) == free:
            return 0.0
        wait_s = min(POLL_S * random.uniform(0.5, 1.5), self._options.takeover_s / _BEATS)
        return wait_s if haul.next_due_s is None else min(wait_s, haul.next_due_s + 0.001)

    async def _doze(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and task.exception() is not None:
            self._engine.metrics.count("worker_errors")
            logger.error("a job's end failed", exc_info=task.exception())
        self._awake.set()

    async def _beat(self) -> None:
        """Say that what runs here still runs."""
        lost: set[str] = set()
        while True:
            await asyncio.sleep(self._options.takeover_s / _BEATS)
            held = list(self._running.values())
            if not held:
                continue
            try:
                for job in await self._jobs.beat(self.id, held):
                    if job in self._running.values() and job.entry not in lost:
                        self._lost(job)
                        lost.add(job.entry)
            except BrokerUnavailable:
                self._engine.metrics.count("worker_unavailable")
            lost &= {job.entry for job in held}

    def _lost(self, job: Taken) -> None:
        self._engine.metrics.count("jobs_lost")
        logger.error(
            "a job of %r is not this worker's any more: Redis has forgotten it, or another "
            "worker has it, since this one was not heard of for %s s; it may run twice",
            job.queue,
            self._options.takeover_s,
        )

    # -- one job -------------------------------------------------------------------------

    async def _do(self, taken: Taken) -> None:
        """Run a job and say what became of it; whatever that is, the worker goes on."""
        consumer = self._consumers[taken.queue]
        await self._say(taken, await self._runner.run(taken, consumer))

    async def _say(self, taken: Taken, end: End) -> None:
        """Tell Redis, however long it takes to come back; the job is held meanwhile."""
        # Its connections are not the threads': what the job committed comes first.
        await publisher.asettle()
        retry_s = _RETRY_S[0]
        while True:
            try:
                if not await self._jobs.end(self.id, taken, end):
                    self._lost(taken)
                return
            except BrokerUnavailable as error:
                self._engine.metrics.count("worker_unavailable")
                if self._runner.is_returning:
                    logger.error("the end of a job could not be told: %s", error)
                    return
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))
            retry_s = min(_RETRY_S[1], 2 * retry_s)
