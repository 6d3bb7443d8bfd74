"""Where emitted events travel: reserved channels, per path, parameters, user, connection.

A process hears only those that its own sockets need. The payload is the very text of the
frame, so that a process makes one frame of it and every socket costs one write.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Generator, Mapping
from typing import Any
from urllib.parse import urlencode

from ... import codec
from ...conf import get_config
from ...messages import Draft, new_header, reserved_channel
from ...models.snapshots import encode_lazy
from ...publishing import transactions
from ...publishing.sending import asend
from .words import as_data

_LONGEST = 200
"""Characters of an address that are kept as they are: parts of it are the client's."""


def everywhere(path: str) -> str:
    """The channel of all sockets of a path."""
    return _channel(path, "*", "")


def of_parameters(path: str, params: Mapping[str, str]) -> str:
    """The channel of those with these parameters."""
    return _channel(path, "?", urlencode(sorted(params.items())))


def of_user(path: str, user_id: str) -> str:
    """The channel of those of one user."""
    return _channel(path, "@", user_id)


def of_client(path: str, client: str) -> str:
    """The channel of one connection."""
    return _channel(path, "#", client)


def _channel(path: str, kind: str, whose: str) -> str:
    # No path and no parameter has a zero byte in it: two addresses never share a name.
    name = f"event:{kind}{path}\0{whose}"
    if len(name) > _LONGEST:
        name = f"event:{kind}{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
    return reserved_channel(name)


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
