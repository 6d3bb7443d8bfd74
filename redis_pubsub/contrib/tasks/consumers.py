"""Everything that a worker of this site can do: consumers, and the tasks of ``TASKS``."""

from __future__ import annotations

import inspect
import time
import traceback
from typing import TYPE_CHECKING, Any

from django.conf import settings
from msgspec import convert

from ...consumers import Consumer, Job, Retry, by_name, load_consumers
from ...publishing.publisher import publisher
from . import framework, records
from .records import Failure, Record

if TYPE_CHECKING:
    from .backend import PubSubBackend

_ABANDONED = "redis_pubsub.exceptions.JobAbandoned"


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
        result = await job.orm.run(self._begin, job)
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
            await job.orm.run(self._failed, job, error)
            raise
        await job.orm.run(self._succeeded, job, value)

    async def died(self, job: Job, error: str) -> None:
        """See `Consumer`: the result says that it failed, also where nobody was left to."""
        await job.orm.run(self._abandoned, job, error)

    # -- in threads ----------------------------------------------------------------------

    def _begin(self, job: Job) -> Any:
        record = self._record(job)
        now = time.time()
        record.status = "RUNNING"
        record.started_at = record.started_at or now
        record.last_attempted_at = now
        record.workers.append(job.worker)
        result = records.result_of(record)
        self._save(record)
        framework.part("signals").task_started.send(self._sender, task_result=result)
        return result

    def _succeeded(self, job: Job, value: Any) -> None:
        record = self._record(job)
        record.status, record.value = "SUCCESSFUL", value
        record.finished_at = time.time()
        self._finish(record)

    def _failed(self, job: Job, error: BaseException) -> None:
        record = self._record(job)
        kind = type(error)
        text = "".join(traceback.format_exception(error))
        record.errors.append(Failure(f"{kind.__module__}.{kind.__qualname__}", text))
        if self.retry.wait_s(job.attempt) is None:
            record.status, record.finished_at = "FAILED", time.time()
            self._finish(record)
        else:
            record.status = "READY"
            self._save(record)

    def _abandoned(self, job: Job, error: str) -> None:
        record = self._record(job)
        if record.status != "FAILED":
            record.errors.append(Failure(_ABANDONED, error))
            record.status, record.finished_at = "FAILED", time.time()
            self._finish(record)

    def _record(self, job: Job) -> Record:
        """As it is kept; as it was sent, if it is not kept any more."""
        sent = convert(job.message.payload["record"], Record)
        return records.load(publisher.broker().jobs, sent.id) or sent

    def _save(self, record: Record) -> None:
        from .backend import result_ttl_s

        records.save(publisher.broker().jobs, record, result_ttl_s(record))

    def _finish(self, record: Record) -> None:
        self._save(record)
        result = records.result_of(record)
        framework.part("signals").task_finished.send(self._sender, task_result=result)


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function)
