"""The backend: enqueues tasks as jobs, and finds their results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core import checks
from django.db import DEFAULT_DB_ALIAS
from django.utils.crypto import get_random_string

from ...conf import get_config
from ...consumers import job, times
from ...publishing import transactions
from ...publishing.publisher import publisher
from ...publishing.sending import refuse_on_loop
from . import framework, records
from .records import Record

_base = framework.part("backends.base")
OPTIONS = ("retries", "backoff_s", "database")


class PubSubBackend(_base.BaseTaskBackend):  # type: ignore[misc, name-defined]
    """Tasks as jobs of this package's workers.

    A task is sent when the transaction commits in which it is enqueued. ``OPTIONS``:
    ``retries`` (0) and ``backoff_s`` (1.0) as `redis_pubsub.consumer` has them,
    ``database`` whose transaction is waited for.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    # Jobs of a queue are taken in their order; use queues, and workers for them.
    supports_priority = False

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Keep the task's record, and send its job after the commit.

        Raises:
            InvalidTask: This backend cannot run it.
            TypeError: An argument is not JSON-able.
            QueueFull: No transaction is open, and there is no room.
            BrokerUnavailable: Redis failed.
            RuntimeError: Called on a running event loop; use ``aenqueue``.
        """
        refuse_on_loop("enqueue")
        self.validate_task(task)
        record = Record(
            id=get_random_string(32),
            task=task.module_path,
            backend=self.alias,
            queue=task.queue_name,
            args=framework.normalize_json(list(args)),
            kwargs=framework.normalize_json(dict(kwargs)),
            run_after=None if task.run_after is None else task.run_after.timestamp(),
            enqueued_at=time.time(),
        )
        draft = job(
            queue_name(self.alias, task.queue_name),
            {"record": record},
            times(0.0, task.run_after, None),
        )
        if not publisher.is_diverted:
            ttl_s = result_ttl_s(record)
            records.save(publisher.broker().jobs, record, ttl_s)
        using = self.options.get("database", DEFAULT_DB_ALIAS)
        transactions.after_commit(draft, using, strict=True, outbox=get_config().outbox)
        result = records.result_of(record)
        framework.part("signals").task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """The result of a task, ``workers["result_ttl_s"]`` after its last change.

        Raises:
            TaskResultDoesNotExist: There is none, or it was too long ago.
            BrokerUnavailable: Redis did not answer.
        """
        record = records.load(publisher.broker().jobs, result_id)
        if record is None or record.backend != self.alias:
            raise _does_not_exist()(result_id)
        return records.result_of(record)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """What is wrong with the entry in ``TASKS``."""
        yield from super().check(**kwargs)
        if not self.queues:
            yield checks.Error(
                f'TASKS["{self.alias}"]["QUEUES"] is empty: workers would not know where '
                "to look.",
                hint='Name the queues, as in ["default"].',
                id="redis_pubsub.E030",
            )
        unknown = sorted(set(self.options) - set(OPTIONS))
        if unknown:
            yield checks.Error(
                f'TASKS["{self.alias}"]["OPTIONS"] has {", ".join(unknown)}, which has no '
                "effect.",
                hint=f"Known here: {', '.join(OPTIONS)}.",
                id="redis_pubsub.E031",
            )


def queue_name(alias: str, queue: str) -> str:
    """What workers call a queue of tasks."""
    return f"task:{alias}:{queue}"


def result_ttl_s(record: Record) -> float:
    """How long a record is kept: a task that is due later is not forgotten before."""
    wait_s = max(0.0, (record.run_after or 0.0) - time.time())
    return get_config().workers.result_ttl_s + wait_s


def _does_not_exist() -> type[Exception]:
    exceptions = framework.part("exceptions")
    found: type[Exception] | None = getattr(exceptions, "TaskResultDoesNotExist", None)
    return found or exceptions.ResultDoesNotExist
