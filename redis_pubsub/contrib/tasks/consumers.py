"""Everything that a worker of this site can do: consumers, and the tasks of ``TASKS``."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import random
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from msgspec import convert

from ...consumers import Consumer, Job, Retry, by_name, load_consumers
from ...exceptions import BrokerUnavailable
from ...metrics import Occasionally
from ...publishing.publisher import publisher
from . import framework, records
from .records import Failure, Record

if TYPE_CHECKING:
    from .backend import PubSubBackend

logger = logging.getLogger("redis_pubsub.worker")

_ABANDONED = "redis_pubsub.exceptions.JobAbandoned"
_RETRY_S = (0.1, 2.0)

_may_log = Occasionally()

Change = Callable[[Record], str]


def load_all() -> list[Consumer]:
    """The consumers of all installed apps, and those of the site's ``TASKS``.

    Raises:
        HandlerConfigError: A module does not import, or two have one name.
    """
    consumers = [*load_consumers(), *task_consumers()]
    by_name(consumers)
    return consumers


def task_consumers() -> list[Consumer]:
    """One for each entry of ``TASKS`` that has this package's backend."""
    if framework.home() is None or not getattr(settings, "TASKS", None):
        return []
    from .backend import PubSubBackend

    backends = framework.part().task_backends.all()
    found = [each for each in backends if isinstance(each, PubSubBackend)]
    return [TaskConsumer(backend) for backend in found if backend.queues]


class TaskConsumer(Consumer):
    """Runs the tasks of one backend.

    Args:
        backend: Whose.
    """

    def __init__(self, backend: PubSubBackend) -> None:
        from .backend import queue_name

        def run_task(record: Any) -> None:
            """Only its name is used, in logs."""

        run_task.__qualname__ = f"tasks of TASKS[{backend.alias!r}]"
        options = backend.options
        retry = Retry(options.get("retries", 0), options.get("backoff_s", 1.0))
        names = [queue_name(backend.alias, queue) for queue in sorted(backend.queues)]
        super().__init__(names, run_task, retry)
        self._sender = type(backend)

    async def run(self, job: Job) -> None:
        """Run a task; what it returns or raises is kept."""
        result = await self._keep(job, functools.partial(_begun, by=job.worker))
        task = result.task
        arguments = list(result.args)
        if task.takes_context:
            context = framework.part("base").TaskContext(task_result=result)
            arguments.insert(0, context)
        try:
            if _is_async(task.func):
                value = await task.func(*arguments, **result.kwargs)
            else:
                value = await job.orm.run(task.func, *arguments, **result.kwargs)
            value = framework.normalize_json(value)
        except (Exception, SystemExit) as error:
            is_over = self.retry.wait_s(job.attempt) is None
            await self._keep(job, functools.partial(_failed, error=error, is_over=is_over))
            raise
        await self._keep(job, functools.partial(_succeeded, value=value))

    async def died(self, job: Job, error: str) -> None:
        """See `Consumer`: the result says that it failed, also where nobody was left to."""
        await self._keep(job, functools.partial(_abandoned, error=error))

    async def _keep(self, job: Job, change: Change) -> Any:
        """Change what is kept of a task, however long Redis takes to come back: what was
        done must not be done again for that. The job is held meanwhile.

        Returns:
            The result that it is now.
        """
        changed: list[tuple[Record, str]] = []

        def keep() -> Any:
            try:
                if not changed:
                    record = self._record(job)
                    changed.append((record, change(record)))
                record, signal = changed[0]
                self._save(record)
            except BrokerUnavailable as error:
                publisher.metrics.count("worker_unavailable")
                if _may_log("unavailable"):
                    logger.warning("a task's result waits for Redis: %s", error)
                return None
            result = records.result_of(record)
            if signal:
                told = getattr(framework.part("signals"), signal)
                told.send(self._sender, task_result=result)
            return result

        retry_s = _RETRY_S[0]
        while (result := await job.orm.run(keep)) is None:
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.5))
            retry_s = min(_RETRY_S[1], 2 * retry_s)
        return result

    # -- in threads ----------------------------------------------------------------------

    def _record(self, job: Job) -> Record:
        """As it is kept; as it was sent, if it is not kept any more."""
        sent = convert(job.message.payload["record"], Record)
        return records.load(publisher.broker().jobs, sent.id) or sent

    def _save(self, record: Record) -> None:
        from .backend import result_ttl_s

        records.save(publisher.broker().jobs, record, result_ttl_s(record))


# What changes a record says which signal is to be sent, if any.


def _begun(record: Record, *, by: str) -> str:
    # Nothing has begun where there is no such task any more.
    records.task_of(record)
    now = time.time()
    record.status = "RUNNING"
    record.started_at = record.started_at or now
    record.last_attempted_at = now
    record.workers.append(by)
    return "task_started"


def _succeeded(record: Record, *, value: Any) -> str:
    record.status, record.value = "SUCCESSFUL", value
    record.finished_at = time.time()
    return "task_finished"


def _failed(record: Record, *, error: BaseException, is_over: bool) -> str:
    kind = type(error)
    text = "".join(traceback.format_exception(error))
    record.errors.append(Failure(f"{kind.__module__}.{kind.__qualname__}", text))
    if not is_over:
        record.status = "READY"
        return ""
    record.status, record.finished_at = "FAILED", time.time()
    return "task_finished"


def _abandoned(record: Record, *, error: str) -> str:
    if record.status == "FAILED":
        return ""
    record.errors.append(Failure(_ABANDONED, error))
    record.status, record.finished_at = "FAILED", time.time()
    return "task_finished"


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function)
