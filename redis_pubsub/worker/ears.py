"""Being woken when there is something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ..exceptions import BrokerUnavailable
from ..hub import Hub
from ..messages import Message

_AGAIN_S = 1.0


class Ears:
    """Listens to channels for the sake of being told that something came.

    Args:
        hub: Where to listen.
        channels: To what.
        wake: Called at each message, and where some may have been missed.
    """

    framing = None
    connection_id = ""

    def __init__(self, hub: Hub, channels: Iterable[str], wake: Callable[[], None]) -> None:
        self._hub = hub
        self._channels = list(channels)
        self._wake = wake
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to listen, in the background: without it work is only found later."""
        self._task = asyncio.create_task(self._listen(), name="redis-pubsub-ears")

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for channel in self._channels:
            self._hub.leave(channel, self)

    def offer(self, messages: list[Message]) -> None:
        self._wake()

    def position_lost(self, channel: str) -> None:
        self._wake()

    async def _listen(self) -> None:
        for channel in self._channels:
            while True:
                try:
                    await self._hub.listen(channel, self)
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(_AGAIN_S)
            self._wake()
