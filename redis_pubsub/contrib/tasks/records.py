"""Results of tasks, as they are kept in Redis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from django.utils.module_loading import import_string

from ...broker.jobs import BlockingJobs
from . import framework


class Failure(msgspec.Struct):
    """Why an attempt failed."""

    exception: str
    traceback: str


class Record(msgspec.Struct, omit_defaults=True):
    """A task that was enqueued, and what became of it. Times are Unix seconds."""

    id: str
    task: str
    backend: str
    queue: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    run_after: float | None = None
    status: str = "READY"
    enqueued_at: float | None = None
    started_at: float | None = None
    last_attempted_at: float | None = None
    finished_at: float | None = None
    errors: list[Failure] = []
    workers: list[str] = []
    value: Any = None


def save(jobs: BlockingJobs, record: Record, ttl_s: float) -> None:
    """Keep a record.

    Raises:
        BrokerUnavailable: It may not be kept.
    """
    jobs.keep(_name(record.id), msgspec.json.encode(record), ttl_s)


def load(jobs: BlockingJobs, id: str) -> Record | None:
    """The record of a task, if it is still kept.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    raw = jobs.kept(_name(id))
    return None if raw is None else msgspec.json.decode(raw, type=Record)


def result_of(record: Record) -> Any:
    """The record as the framework's ``TaskResult``.

    Raises:
        ImportError: There is no such task any more.
        TypeError: What has the task's path is none.
    """
    base = framework.part("base")
    result = base.TaskResult(
        task=task_of(record),
        id=record.id,
        status=base.TaskResultStatus[record.status],
        enqueued_at=_moment(record.enqueued_at),
        started_at=_moment(record.started_at),
        finished_at=_moment(record.finished_at),
        last_attempted_at=_moment(record.last_attempted_at),
        args=record.args,
        kwargs=record.kwargs,
        backend=record.backend,
        errors=[
            base.TaskError(exception_class_path=each.exception, traceback=each.traceback)
            for each in record.errors
        ],
        worker_ids=list(record.workers),
    )
    object.__setattr__(result, "_return_value", record.value)
    return result


def task_of(record: Record) -> Any:
    """The task a record speaks of: nothing but tasks, whatever Redis says.

    Raises:
        ImportError: There is none of that path.
        TypeError: What has the path is no task.
    """
    task = import_string(record.task)
    if not isinstance(task, framework.part("base").Task):
        raise TypeError(f"{record.task} is no task")
    return task.using(
        queue_name=record.queue,
        backend=record.backend,
        run_after=_moment(record.run_after),
    )


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _name(id: str) -> str:
    return f"task:{id}"
