"""Blocks of one response on their way from a thread to the event loop.

Bounded: while more than the limit waits, the thread waits. The loop takes everything
that waits at once, so that many small blocks cost few turns, and a single one leaves
without delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

PIPE_BYTES = 65_536
"""A thread may be ahead of the loop by this much, and by one block more."""


class ReaderLeft(Exception):
    """Nobody wants the blocks any more: stop making them."""


class BlockPipe:
    """One writing thread, one reading coroutine.

    Args:
        loop: Where the reader runs.
        limit_bytes: What may wait before the thread has to.

    Attributes:
        is_cut: At the end: whether blocks are missing.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit_bytes: int = PIPE_BYTES
    ) -> None:
        self._loop = loop
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition(threading.Lock())
        self._blocks: list[bytes] = []
        self._size = 0
        self._has_ended = False
        self._is_abandoned = False
        self._is_reader_called = False
        self._arrived = asyncio.Event()
        self.is_cut = False

    def put(self, block: bytes) -> None:
        """Hand over one block; waits while too much waits. Called by the thread.

        Raises:
            ReaderLeft: The client is gone.
        """
        with self._changed:
            while self._size >= self._limit_bytes and not self._is_abandoned:
                self._changed.wait()
            if self._is_abandoned:
                raise ReaderLeft
            self._blocks.append(block)
            self._size += len(block)
            self._call_reader()

    def end(self, *, is_cut: bool = False) -> None:
        """No more blocks; ``is_cut`` where there should have been. Called by the thread."""
        with self._changed:
            self._has_ended = True
            self.is_cut |= is_cut
            self._call_reader()

    async def take(self) -> bytes:
        """Everything that waits; ``b""`` at the end."""
        while True:
            await self._arrived.wait()
            with self._changed:
                self._arrived.clear()
                self._is_reader_called = False
                blocks, self._blocks, self._size = self._blocks, [], 0
                has_ended = self._has_ended
                self._changed.notify_all()
            if has_ended:
                # The end stays to be seen by the next call.
                self._arrived.set()
            if blocks or has_ended:
                return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def abandon(self) -> None:
        """Give up: the thread's next (or waiting) `put` raises, the reader sees a cut."""
        with self._changed:
            self._is_abandoned = self._has_ended = self.is_cut = True
            self._blocks, self._size = [], 0
            self._changed.notify_all()
            self._call_reader()

    def _call_reader(self) -> None:
        if self._is_reader_called:
            return
        self._is_reader_called = True
        # A closed loop has no reader that could be missed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrived.set)
