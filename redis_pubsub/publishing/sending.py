"""Where a caller is, a thread or the event loop, decides how it may send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..engine import current_engine
from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
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


async def send(drafts: Sequence[Draft], *, strict: bool) -> Sequence[Position | None]:
    """Send messages from a coroutine, in one round trip; as `Publisher.send`."""
    engine = current_engine()
    if engine is None:
        return await asyncio.to_thread(publisher.send, drafts, strict=strict)
    try:
        return await engine.hub.broker.publish(drafts)
    except BrokerUnavailable as error:
        if strict:
            raise
        publisher.failed(drafts, error)
        return [None] * len(drafts)
