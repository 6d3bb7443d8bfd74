"""Asking for a job: after the commit, at once, or for later. Knows names, no functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from .. import codec
from ..conf import get_config
from ..engine import current_engine
from ..exceptions import InvalidPayload, QueueFull
from ..messages import Draft, Times, check_channel_name, new_header, queue_channel
from ..publishing import transactions
from ..publishing.publisher import publisher

RESERVED = ("delay_s", "at", "expires_s", "using")
"""Options of `send`, which no argument of a job can be called."""


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
        # Its connections are not the threads': what they posted comes first.
        await publisher.asettle()
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


def _refuse_on_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("send() would block the event loop; write `await asend(...)` here")
