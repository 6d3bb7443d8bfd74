"""What a client has sent and its handler has not read yet, bounded."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import WSMessage
from aiohttp.http_websocket import WS_CLOSED_MESSAGE

from ...options import Limits


class Inbox:
    """Of one socket: its pump puts messages in, its handler takes them out.

    Args:
        limits: How many messages and bytes may be unread.
    """

    __slots__ = ("_bytes", "_is_over", "_limits", "_messages", "_taker")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Made with the first message: most sockets only listen.
        self._messages: deque[WSMessage] | None = None
        self._bytes = 0
        self._taker: asyncio.Future[None] | None = None
        self._is_over = False

    def put(self, message: WSMessage) -> bool:
        """Keep a message; ``False`` if too much is unread: then nothing is kept."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        self._bytes += _size(message)
        if (
            len(self._messages) > self._limits.receive_messages
            # One message may be as large as the client's limit is.
            or (len(self._messages) > 1 and self._bytes > self._limits.receive_bytes)
        ):
            self._messages.clear()
            self._bytes = 0
            return False
        self._wake()
        return True

    def end(self) -> None:
        """Nothing more will come; what is there may still be taken."""
        self._is_over = True
        self._wake()

    async def take(self, timeout: float | None = None) -> WSMessage:
        """The next message; ``CLOSED`` after the last.

        Raises:
            RuntimeError: Somebody waits for it already.
            TimeoutError: Nothing came in time.
        """
        if self._taker is not None:
            raise RuntimeError(
                "this socket is being received from already; only the handler receives, "
                "a callback must not"
            )
        if not self._messages and not self._is_over:
            self._taker = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._taker
            finally:
                self._taker = None
        if not self._messages:
            return WS_CLOSED_MESSAGE
        message = self._messages.popleft()
        self._bytes -= _size(message)
        return message

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)


def _size(message: WSMessage) -> int:
    return len(message.data) if message.data else 0
