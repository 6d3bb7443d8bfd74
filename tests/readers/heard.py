"""A callback for tests."""

from __future__ import annotations

import asyncio
import threading


class Heard:
    """A callback that remembers, and can be waited for."""

    def __init__(self, *results):
        self.values = []
        self.channels = []
        self.threads = set()
        self.results = list(results)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def __call__(self, channel, value):
        self.channels.append(channel)
        self.values.append(value)
        self.threads.add(threading.current_thread())
        self._loop.call_soon_threadsafe(self._changed.set)
        return self.results.pop(0) if self.results else None

    async def wait_for(self, count):
        async with asyncio.timeout(5):
            while len(self.values) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.values
