"""Sending an event: what it is on the wire, and when it goes.

The payload is the very text of the frame, so that a process makes one frame of it and every
socket costs one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

from ... import codec
from ...conf import get_config
from ...messages import Draft, new_header
from ...models.snapshots import encode_lazy
from ...publishing import transactions
from ...publishing.sending import asend
from .words import as_data


def event_payload(event: str, data: Any) -> bytes:
    """The text of a frame.

    Raises:
        TypeError, InvalidPayload: The data is not JSON-able.
    """
    return codec.encode({"event": event, "data": as_data(data)}, encode_lazy)


def emit(
    channel: str, event: str, data: Any, *, exclude: str, using: str, strict: bool
) -> Awaitable[None]:
    """Send an event: in a thread after the commit; on the event loop when it is awaited."""
    raw = event_payload(event, data)
    codec.check_size(raw, get_config().limits.message_bytes)
    draft = Draft(channel, new_header(event, exclude=exclude), raw)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        transactions.after_commit(draft, using, strict=strict)
        return _Done()
    return _send(draft, using, strict)


async def _send(draft: Draft, using: str, strict: bool) -> None:
    # Not through the outbox: an event is for those who are there.
    await asend(lambda: [draft], queries=False, kept=False, using=using, strict=strict)


class _Done:
    """What needs no wait any more."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()
