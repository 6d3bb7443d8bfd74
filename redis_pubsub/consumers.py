"""Work for other processes: ``@consumer("name")`` does it, `send` asks for it.

A job is a name and JSON arguments. One worker (``manage.py pubsub_worker``) runs it. The
functions live in an app's ``consumers`` module, together with receivers.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from . import codec
from .conf import get_config
from .db import Orm
from .discovery import app_modules
from .engine import current_engine
from .exceptions import HandlerConfigError, InvalidPayload, QueueFull
from .messages import Draft, Message, Times, check_channel_name, new_header, queue_channel
from .publishing import transactions
from .publishing.publisher import publisher

MODULE = "consumers"
RESERVED = ("delay_s", "at", "expires_s", "using")
"""Options of `send`, which no argument of a job can be called."""
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """What happens to a job that fails.

    Attributes:
        retries: How often it is tried again before it becomes a dead letter.
        backoff_s: How long after the first failure; twice as long after each further one,
            up to an hour, give or take a quarter.
    """

    retries: int = 3
    backoff_s: float = 1.0

    def wait_s(self, attempts: int) -> float | None:
        """Until a job that has failed so often is tried again; ``None``: it is not."""
        if attempts > self.retries:
            return None
        wait_s: float = min(_LONGEST_S, self.backoff_s * 2.0 ** min(attempts - 1, 20))
        return wait_s * random.uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True)
class Job:
    """What a consumer is given to do.

    Attributes:
        message: Its arguments are the payload.
        attempt: 1 at first, 2 after it has failed once.
        worker: Id of the worker.
        orm: Runs plain functions.
    """

    message: Message
    attempt: int
    worker: str
    orm: Orm


class Consumer:
    """A function that workers run, and the names under which jobs ask for it.

    Args:
        names: One queue each.
        function: Called with the job's arguments by keyword; a coroutine function runs on
            the worker's event loop, a plain one in a thread.
        retry: What happens when it raises.

    Attributes:
        path: Where the function is, for people.
    """

    def __init__(
        self, names: Iterable[str], function: Callable[..., Any], retry: Retry = Retry()
    ) -> None:
        functools.update_wrapper(self, function)
        self.names = tuple(check_channel_name(name) for name in names)
        self.function = function
        self.retry = retry
        self.path = f"{function.__module__}.{function.__qualname__}"
        self._is_async = inspect.iscoroutinefunction(function)
        taken = sorted(set(RESERVED) & set(inspect.signature(function).parameters))
        if taken:
            raise TypeError(
                f"{self.path}() cannot have an argument {taken[0]!r}: send() has an option "
                "of that name"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, here and now."""
        return self.function(*args, **kwargs)

    def send(self, **kwargs: Any) -> str:
        """`send` to this consumer, under its first name."""
        return send(self.names[0], **kwargs)

    async def asend(self, **kwargs: Any) -> str:
        """`asend` to this consumer, under its first name."""
        return await asend(self.names[0], **kwargs)

    async def run(self, job: Job) -> None:
        """Do a job.

        Raises:
            Exception: Whatever the function raises.
        """
        arguments = job.message.payload
        if not isinstance(arguments, dict):
            raise TypeError(f"a job's arguments are an object, not {arguments!r:.80}")
        if self._is_async:
            await self.function(**arguments)
        else:
            await job.orm.run(self.function, **arguments)

    async def died(self, job: Job, error: str) -> None:
        """A job became a dead letter: for those who keep account of them."""


def consumer(
    *names: str, retries: int = 3, backoff_s: float = 1.0
) -> Callable[[Callable[..., Any]], Consumer]:
    """Let workers run a function: ``send("name", pk=3)`` calls it with ``pk=3`` in one of
    them.

    Args:
        names: What `send` calls it. Each is a queue of its own.
        retries: How often a job that raised is tried again; then it is a dead letter.
        backoff_s: How long after the first failure, doubled after each further one.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('@consumer takes the names it listens to: @consumer("resize")')
    return functools.partial(Consumer, names, retry=Retry(retries, backoff_s))


def send(
    name: str,
    /,
    *,
    delay_s: float = 0.0,
    at: datetime | None = None,
    expires_s: float | None = None,
    using: str = DEFAULT_DB_ALIAS,
    **kwargs: Any,
) -> str:
    """Ask for a job, after the commit; a worker runs it.

    Inside a transaction the job is sent when it commits and forgotten when it (or its
    savepoint) rolls back; a failure is then logged and counted. Outside, it is sent at once
    and a failure raises. Where the outbox is on, the job is a row of the transaction, and
    is sent as soon as Redis takes it.

    Args:
        name: The consumer's.
        delay_s: Not before so many seconds have passed.
        at: Not before this moment; instead of ``delay_s``.
        expires_s: Not after so many seconds, counted from when it may run first.
        using: The database whose transaction is waited for.
        kwargs: The function's arguments: anything JSON-able.

    Returns:
        The job's id.

    Raises:
        TypeError: An argument is not JSON-able.
        QueueFull: No transaction is open, and there is no room.
        BrokerUnavailable: No transaction is open, and Redis failed.
        RuntimeError: Called on a running event loop; use `asend`.
    """
    _refuse_on_loop()
    draft = job(name, kwargs, times(delay_s, at, expires_s))
    transactions.after_commit(draft, using, strict=True, outbox=get_config().outbox)
    return draft.header.id


async def asend(
    name: str,
    /,
    *,
    delay_s: float = 0.0,
    at: datetime | None = None,
    expires_s: float | None = None,
    **kwargs: Any,
) -> str:
    """`send` for coroutines. Waits for Redis; knows no transaction and no outbox."""
    draft = job(name, kwargs, times(delay_s, at, expires_s))
    engine = current_engine()
    if engine is None or publisher.is_diverted:
        await asyncio.to_thread(publisher.send_jobs, [draft], strict=True)
    else:
        (outcome,) = await engine.hub.broker.jobs.send([draft])
        if isinstance(outcome, QueueFull):
            engine.metrics.count("queue_full")
            raise outcome
        engine.metrics.count("jobs_sent")
    return draft.header.id


def job(
    name: str,
    arguments: Mapping[str, Any],
    times: Times | None = None,
    *,
    id: str = "",
    spare_bytes: int = 0,
) -> Draft:
    """A job before it is sent.

    Args:
        name: The consumer's.
        arguments: For its function.
        times: When it may run.
        id: Its own; by default a new one.
        spare_bytes: By how much it may be larger than a message.

    Raises:
        TypeError: An argument is not JSON-able.
        InvalidChannelName: The name is none.
        PayloadTooLarge: Over ``limits["message_bytes"]``.
    """
    check_channel_name(name)
    try:
        raw = codec.encode(arguments)
    except (TypeError, InvalidPayload) as error:
        raise TypeError(
            f"a job's arguments must be JSON-able, those for {name!r} are not: {error}. "
            "Send a row's primary key, and load it in the consumer"
        ) from error
    codec.check_size(raw, get_config().limits.message_bytes + spare_bytes)
    header = msgspec.structs.replace(new_header("job"), times=times)
    if id:
        header = msgspec.structs.replace(header, id=id)
    return Draft(queue_channel(name), header, raw)


def times(delay_s: float, at: datetime | None, expires_s: float | None) -> Times | None:
    """When a job may run.

    Raises:
        ValueError: Both a delay and a moment, or a time that runs backwards.
    """
    if delay_s < 0 or (expires_s is not None and expires_s <= 0):
        raise ValueError("delay_s is 0 or more, and expires_s more than 0")
    if at is not None:
        if delay_s:
            raise ValueError("a job has a delay_s or an at, not both")
        due_at = (timezone.make_aware(at) if timezone.is_naive(at) else at).timestamp()
    else:
        due_at = time.time() + delay_s if delay_s else 0.0
    if not due_at and expires_s is None:
        return None
    begin = max(due_at, time.time())
    return Times(due_at, 0.0 if expires_s is None else begin + expires_s)


def load_consumers() -> list[Consumer]:
    """The consumers in the ``consumers`` modules of all installed apps.

    Raises:
        HandlerConfigError: A module does not import, or two have one name.
    """
    found = {
        each.path: each
        for _, module in app_modules(MODULE)
        for each in vars(module).values()
        if isinstance(each, Consumer)
    }
    consumers = list(found.values())
    by_name(consumers)
    return consumers


def by_name(consumers: Iterable[Consumer]) -> dict[str, Consumer]:
    """A table of consumers.

    Raises:
        HandlerConfigError: Two have one name.
    """
    table: dict[str, Consumer] = {}
    for each in consumers:
        for name in each.names:
            other = table.setdefault(name, each)
            if other is not each:
                raise HandlerConfigError(
                    f"@consumer({name!r}) is there twice: {other.path} and {each.path}"
                )
    return table


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("send() would block the event loop; write `await asend(...)` here")
