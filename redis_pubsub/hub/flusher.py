"""Joins what a loop turn brought, and writes it once to each listener.

On this path there is no task, no queue, no lock and no await per listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator

from ..broker import Broker
from ..messages import Message
from ..metrics import Metrics
from .feeds import Feed
from .viewers import Viewers

logger = logging.getLogger("redis_pubsub.hub")

BATCH_BYTES = 1_048_576
"""What one flush of a channel takes at most."""
BACKLOG_HIGH_BYTES = 16_777_216
"""With more than this waiting to be flushed, the broker is asked to pause."""
BACKLOG_LOW_BYTES = 4_194_304


class Flusher:
    """Flushes the feeds of one hub.

    Args:
        broker: Paused while too much waits.
        metrics: Counts deliveries.
        viewers: Who looks at messages that are judged.
    """

    def __init__(self, broker: Broker, metrics: Metrics, viewers: Viewers) -> None:
        self._broker = broker
        self._metrics = metrics
        self._viewers = viewers
        self._loop = asyncio.get_running_loop()
        self._due: deque[Feed] = deque()
        self._running: deque[Generator[None, None, None]] = deque()
        self._is_paused = False
        self._handle: asyncio.Handle | None = None
        self.backlog_bytes = 0

    def add(self, feed: Feed, message: Message, arrived: int = 1) -> None:
        """Give a message to a channel's listeners at the end of this turn.

        Args:
            feed: The channel.
            message: What it gets; judged, if it has to be.
            arrived: 0 if it was counted already when it arrived.
        """
        feed.arrived += arrived
        if feed.keeps_newest:
            feed.newest = message
        feed.pending.append(message)
        self.backlog_bytes += message.size_bytes
        if not feed.is_flushing:
            feed.is_flushing = True
            self._due.append(feed)
            if self._handle is None:
                self._handle = self._loop.call_soon(self._turn)
        if self.backlog_bytes > BACKLOG_HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self._metrics.count("backlog_pauses")
            self._broker.pause()

    def drop(self, feed: Feed) -> None:
        """Nobody listens any more."""
        self.backlog_bytes -= sum(message.size_bytes for message in feed.pending)
        feed.pending.clear()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _turn(self) -> None:
        """Write for one turn of the loop; channels take turns in slices of writes."""
        self._handle = None
        while self._due:
            feed = self._due.popleft()
            if not self._flush_at_once(feed):
                self._running.append(self._flush(feed))
        for _ in range(len(self._running)):
            flush = self._running.popleft()
            if next(flush, flush) is not flush:
                self._running.append(flush)
        if self._running or self._due:
            self._handle = self._loop.call_soon(self._turn)
        if self._is_paused and self.backlog_bytes < BACKLOG_LOW_BYTES:
            self._is_paused = False
            self._broker.resume()

    def _flush_at_once(self, feed: Feed) -> bool:
        """Flush a channel with one message for few listeners of one kind, if it is one."""
        if len(feed.pending) != 1 or len(feed.groups) != 1:
            return False
        (group,) = feed.groups.values()
        count = len(group)
        # A listener may publish to its own channel while it is served.
        messages, feed.pending = feed.pending, []
        first = feed.arrived - feed.in_lane - 1
        if not group.give_at_once(messages, first, self._metrics):
            feed.pending = messages
            return False
        self._metrics.count("deliveries", count)
        self.backlog_bytes -= messages[0].size_bytes
        if feed.onlookers and feed.groups:
            self._show(feed, messages)
        self._flushed(feed)
        return True

    def _flush(self, feed: Feed) -> Generator[None, None, None]:
        """Hand a channel's waiting messages to its listeners; yields between slices."""
        messages = self._take(feed)
        first = feed.arrived - feed.in_lane - len(feed.pending) - len(messages)
        for group in list(feed.groups.values()):
            self._metrics.count("deliveries", len(group) * len(messages))
            try:
                yield from group.give(messages, first, self._metrics, self._viewers)
            except Exception:
                # A framing raised: the other kinds of listeners get their messages.
                self._metrics.count("listener_errors")
                logger.exception("messages of %r could not be framed", feed.channel)
        if feed.onlookers and feed.groups:
            self._show(feed, messages)
        self._flushed(feed)

    def _flushed(self, feed: Feed) -> None:
        feed.is_flushing = bool(feed.pending)
        if feed.pending:
            self._due.append(feed)

    def _show(self, feed: Feed, messages: list[Message]) -> None:
        for onlooker in feed.onlookers:
            try:
                onlooker(messages)
            except Exception:
                self._metrics.count("listener_errors")
                logger.exception("an onlooker of %r failed", feed.channel)

    def _take(self, feed: Feed) -> list[Message]:
        size = 0
        count = 0
        for message in feed.pending:
            size += message.size_bytes
            count += 1
            if size >= BATCH_BYTES:
                break
        messages = feed.pending[:count]
        del feed.pending[:count]
        self.backlog_bytes -= size
        return messages
