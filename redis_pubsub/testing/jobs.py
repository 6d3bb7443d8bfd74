"""Jobs in tests: look at what was sent, or run it here and now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections

from ..consumers import Consumer, Job, by_name
from ..contrib.tasks.consumers import load_all
from ..db import Orm
from ..messages import Draft, Message, Position, queue_of
from ..publishing import transactions
from ..publishing.publisher import publisher

_ROUNDS = 1_000


@dataclass(frozen=True, slots=True)
class SentJob:
    """A job that a test caught.

    Attributes:
        name: The consumer's.
        kwargs: Its arguments, as a worker would get them.
        due_at: Unix time before which it may not run; 0 for any time.
        expires_at: Unix time after which it may not run; 0 for any time.
    """

    name: str
    kwargs: dict[str, Any]
    due_at: float
    expires_at: float


@contextmanager
def captured_jobs() -> Iterator[list[SentJob]]:
    """Collect the jobs that the block sends, instead of sending them::

        with captured_jobs() as jobs:
            client.post("/pictures/", data)
        assert [(job.name, job.kwargs) for job in jobs] == [("resize", {"pk": 1})]

    Works in a ``TestCase`` too, whose transaction never commits; messages are not sent
    either.
    """
    captured: list[SentJob] = []

    def keep(drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            name = queue_of(draft.channel)
            if name is not None:
                captured.append(_sent(name, draft))

    with publisher.diverted(keep):
        before = [*transactions.waiting()]
        yield captured
        for connection in connections.all(initialized_only=True):
            transactions.send_now(connection, besides=before)


@contextmanager
def eager_jobs(consumers: Iterable[Consumer] | None = None) -> Iterator[list[SentJob]]:
    """Run the jobs that the block sends when it ends, in this thread and its database
    connection, and those that they send in turn::

        with eager_jobs():
            client.post("/pictures/", data)
        assert Picture.objects.get().thumbnail

    For synchronous tests. Messages are not sent, delays are not waited for, nothing is
    tried again: what a consumer raises, the block raises.

    Args:
        consumers: These instead of those of the installed apps.

    Raises:
        LookupError: A job is for nobody.
        RuntimeError: Jobs send jobs without end.
    """
    table = by_name(load_all() if consumers is None else consumers)
    waiting: list[Draft] = []
    done: list[SentJob] = []

    def keep(drafts: Sequence[Draft]) -> None:
        waiting.extend(draft for draft in drafts if queue_of(draft.channel) is not None)

    with publisher.diverted(keep):
        before = [*transactions.waiting()]
        yield done
        for _ in range(_ROUNDS):
            for connection in connections.all(initialized_only=True):
                transactions.send_now(connection, besides=before)
            if not waiting:
                return
            draft = waiting.pop(0)
            name = queue_of(draft.channel) or ""
            if name not in table:
                raise LookupError(
                    f"nobody takes jobs of {name!r}; there are: {', '.join(sorted(table))}"
                )
            done.append(_sent(name, draft))
            _run(table[name], draft)
    raise RuntimeError(f"jobs have sent {_ROUNDS} jobs, and there are more")


def _sent(name: str, draft: Draft) -> SentJob:
    times = draft.header.times
    message = Message(draft.channel, draft.header, draft.raw, Position("", 0))
    return SentJob(
        name,
        message.payload,
        times.due_at if times else 0.0,
        times.expires_at if times else 0.0,
    )


def _run(consumer: Consumer, draft: Draft) -> None:
    """Run one job: plain functions in this thread, coroutines on a loop of their own."""
    message = Message(draft.channel, draft.header, draft.raw, Position("", 0))
    orm = Orm(1, 1, in_test_thread=True)
    async_to_sync(consumer.run)(Job(message, 1, "test", orm))
