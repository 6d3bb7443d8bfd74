"""Beginning and ending a connection to Redis without trusting anybody to let go.

Not by cancelling, which redis-py may swallow: what waits on a transport that was aborted
fails by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection

_AGAIN_S = 0.1


async def connect(connection: AbstractConnection, timeout_s: float) -> None:
    """Connect, and have the first commands answered, in bounded time.

    A server that stands still accepts connections and answers nothing, and the pub/sub
    connection has no read timeout of redis-py's.

    Args:
        connection: With a ``socket_connect_timeout`` of its own.
        timeout_s: For all of it.

    Raises:
        RedisError: It did not come about.
    """
    deadline = _Deadline(connection, timeout_s)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    finally:
        deadline.cancel()


def abort(connection: AbstractConnection) -> bool:
    """End a connection at once, whatever is still to be sent; whether it was open."""
    writer = connection._writer
    if writer is None:
        return False
    writer.transport.abort()
    return True


def is_open(connection: AbstractConnection) -> bool:
    """Whether a connection was made and not ended on this side."""
    writer = connection._writer
    return writer is not None and not writer.transport.is_closing()


def replies_at_hand(connection: AbstractConnection) -> Callable[[], list[Any] | None]:
    """Takes what a connection has read already, reply after reply, without awaiting.

    redis-py reads as much as there is and gives one reply a call, each through coroutines
    and timeouts; for thousands of messages a second that costs more than their parsing.

    Returns:
        A function that gives the next whole reply of a subscriber, or ``None``: wait for
        one with ``read_response``, which also raises what is no message.
    """
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    gets = getattr(reader, "gets", None)
    if gets is None:
        # The parser in Python: correct, only slower.
        return lambda: None

    def next_reply() -> list[Any] | None:
        reply = gets()
        if type(reply) is list:
            return reply
        if isinstance(reply, Exception):
            raise reply
        return None

    return next_reply


class _Deadline:
    """Aborts a connection when its time is up."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(timeout_s, self._expired)

    def _expired(self) -> None:
        if not abort(self._connection):
            # Not open yet, which redis-py bounds; or it opens at this very moment.
            self._handle = self._loop.call_later(_AGAIN_S, self._expired)

    def cancel(self) -> None:
        self._handle.cancel()
