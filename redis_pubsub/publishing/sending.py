"""Where a caller is, a thread or the event loop, decides how it may send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.db import models

from ..conf import get_config
from ..engine import current_engine
from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
from ..models.publishable import uses_outbox
from . import transactions
from .publisher import publisher


def refuse_on_loop(name: str) -> None:
    """Let a blocking function be called from threads only.

    Raises:
        RuntimeError: Called on a running event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{name}() would block the event loop; write `await a{name}(...)` here"
    )


def is_kept(payload: Any, history: bool, outbox: bool | None) -> bool:
    """Whether a message goes through the outbox.

    Args:
        payload: What is sent.
        history: Whether it is of use later.
        outbox: What the caller says; ``None`` for what the setting says, or the model.
    """
    if isinstance(payload, models.Model):
        return uses_outbox(type(payload)) if outbox is None else outbox
    return history and (get_config().outbox if outbox is None else outbox)


async def asend(
    make: Callable[[], list[Draft]],
    *,
    queries: bool,
    kept: bool,
    using: str,
    strict: bool,
) -> list[Position | None]:
    """Send messages from a coroutine, in one round trip.

    Args:
        make: Makes them.
        queries: Whether that may query.
        kept: Whether they go through the outbox.
        using: The outbox's database.
        strict: Raise `BrokerUnavailable` if Redis fails.

    Returns:
        Where each stands, as `Broker.publish`; ``None`` where it is in the outbox, or Redis
        failed.
    """
    engine = current_engine()
    run: Any = engine.orm.run if engine else _in_thread
    drafts = await run(make) if queries else make()
    if kept:
        await run(transactions.all_after_commit, drafts, using, strict=strict, outbox=True)
        return [None] * len(drafts)
    if engine is None:
        sent = await asyncio.to_thread(publisher.send, drafts, strict=strict)
        return list(sent)
    # Its connections are not the threads': what they posted comes first.
    await publisher.asettle()
    try:
        return await engine.hub.broker.publish(drafts)
    except BrokerUnavailable as error:
        if strict:
            raise
        publisher.failed(drafts, error)
        return [None] * len(drafts)


async def _in_thread(function: Any, *args: Any, **options: Any) -> Any:
    return await sync_to_async(function)(*args, **options)
