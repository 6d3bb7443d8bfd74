"""A client of an event socket, for tests."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp


class EventClient:
    """Speaks ``{"event", "data"}`` over an open socket.

    Attributes:
        ws: The socket, as aiohttp's client has it.
    """

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def emit(self, event: str, data: Any = None) -> None:
        """Send an event."""
        await self.ws.send_json({"event": event, "data": {} if data is None else data})

    async def receive(self, timeout_s: float = 5.0) -> tuple[str, Any]:
        """The next event and its data.

        Raises:
            TimeoutError: None came in time.
            TypeError: The socket was closed, or something came that is no event.
        """
        frame = await self.ws.receive_json(timeout=timeout_s)
        return frame["event"], frame["data"]

    async def receive_nothing(self, timeout_s: float = 0.1) -> bool:
        """Whether nothing came for so long; what does come is lost."""
        try:
            await asyncio.wait_for(self.ws.receive(), timeout_s)
        except TimeoutError:
            return True
        return False

    async def receive_close(self, timeout_s: float = 5.0) -> int | None:
        """Wait for the server's close; its code. Events that come before are skipped.

        Raises:
            TimeoutError: It did not come in time.
        """
        async with asyncio.timeout(timeout_s):
            while not self.ws.closed:
                await self.ws.receive()
        return self.ws.close_code

    async def close(self, code: int = 1000) -> None:
        """Leave."""
        await self.ws.close(code=code)
