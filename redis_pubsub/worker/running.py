"""One job: run, and what that means for it: done, again later, or a dead letter."""

from __future__ import annotations

import asyncio
import logging
import traceback

from ..broker.jobs import DEAD, DONE, LATER, End, Taken
from ..consumers import Consumer, Job
from ..db import Orm
from ..messages import Message, Position, new_header, queue_channel
from ..metrics import Metrics
from ..options import WorkerOptions

logger = logging.getLogger("redis_pubsub.worker")

_ERROR_CHARACTERS = 20_000


class Runner:
    """Runs jobs; knows no queue and no other job.

    Args:
        worker: Id of the worker they run in.
        orm: Runs plain functions.
        options: How many workers may die of a job.
        metrics: Counts what became of jobs.

    Attributes:
        is_returning: Set when the worker ends: jobs that are cancelled have not failed.
    """

    def __init__(
        self, worker: str, orm: Orm, options: WorkerOptions, metrics: Metrics
    ) -> None:
        self._worker = worker
        self._orm = orm
        self._options = options
        self._metrics = metrics
        self.is_returning = False

    async def run(self, taken: Taken, consumer: Consumer) -> End:
        """Run a job, and count, log and tell what came of it.

        Args:
            taken: The job as it was taken from its queue.
            consumer: Does it.
        """
        self._orm.adopt()
        message = taken.message or _unreadable(taken)
        job = Job(message, taken.attempts + 1, self._worker, self._orm)
        try:
            self._refuse(taken)
            await consumer.run(job)
        except _Hopeless as error:
            logger.error("a job of %r is a dead letter: %s", taken.queue, error)
            end = End(DEAD, taken.attempts, 0.0, str(error))
        except BaseException as error:
            if self.is_returning and isinstance(error, asyncio.CancelledError):
                self._metrics.count("jobs_returned")
                end = End(LATER, taken.attempts)
            elif isinstance(error, GeneratorExit):
                raise
            else:
                # SystemExit too: a job that wants to exit must not take the worker along.
                end = self._failed(consumer, taken, error)
        else:
            self._metrics.count("jobs_done")
            end = End(DONE)
        if end.how == DEAD:
            self._metrics.count("jobs_dead")
            await self._tell_dead(consumer, job, end.error)
        return end

    def _refuse(self, taken: Taken) -> None:
        if taken.message is None:
            raise _Hopeless("it cannot be read, or its signature is missing or wrong")
        died = taken.deliveries - 1
        if died >= self._options.crashes:
            raise _Hopeless(f"{died} workers died while they ran it, or were cut off")
        if died:
            self._metrics.count("jobs_taken_over")

    def _failed(self, consumer: Consumer, taken: Taken, error: BaseException) -> End:
        attempts = taken.attempts + 1
        wait_s = consumer.retry.wait_s(attempts)
        self._metrics.count("jobs_failed")
        logger.error(
            "%s failed (attempt %d, %s)",
            consumer.path,
            attempts,
            "now a dead letter" if wait_s is None else f"again in {wait_s:.1f} s",
            exc_info=error,
        )
        if wait_s is not None:
            return End(LATER, attempts, wait_s)
        text = "".join(traceback.format_exception(error))
        return End(DEAD, attempts, 0.0, text[-_ERROR_CHARACTERS:])

    async def _tell_dead(self, consumer: Consumer, job: Job, error: str) -> None:
        try:
            await consumer.died(job, error)
        except Exception:
            self._metrics.count("worker_errors")
            logger.exception("%s could not be told of a dead letter", consumer.path)


class _Hopeless(Exception):
    """A job that is not worth a further attempt."""


def _unreadable(taken: Taken) -> Message:
    return Message(queue_channel(taken.queue), new_header(), b"{}", Position("", 0))
