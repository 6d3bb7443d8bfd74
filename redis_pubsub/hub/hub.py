"""The hub: joins what a loop turn brought, and writes it once to each listener.

On this path there is no task, no queue, no lock and no await per listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator

from ..broker import Broker
from ..exceptions import MalformedMessage
from ..messages import Message, Position
from ..metrics import Metrics, Occasionally
from ..wire import Envelope
from .admission import Admission, drop_log, keep_log
from .catchup import CatchUp
from .feeds import Feed
from .listeners import Listener
from .log import Log

logger = logging.getLogger("redis_pubsub.hub")

BATCH_BYTES = 1_048_576
"""What one flush of a channel takes at most."""
BACKLOG_HIGH_BYTES = 16_777_216
"""With more than this waiting to be flushed, the broker is asked to pause."""
BACKLOG_LOW_BYTES = 4_194_304
LEAVE_DELAY_S = 1.0
"""How long a channel without listeners stays subscribed: page changes come and go."""


class Hub:
    """Feeds the listeners of one process.

    Args:
        broker: Where messages come from; started and closed with the hub.
        metrics: Where losses are counted.
        envelope: Reads what the broker delivers.
        recovery_messages: How many missed messages a listener may ask for.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        envelope: Envelope | None = None,
        *,
        recovery_messages: int = 1_000,
    ) -> None:
        self._envelope = envelope or Envelope()
        self.broker = broker
        self.metrics = metrics
        self._feeds: dict[str, Feed] = {}
        self._due: deque[Feed] = deque()
        self._running: deque[Generator[None, None, None]] = deque()
        self._backlog_bytes = 0
        self._is_paused = False
        self._turn_handle: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._leaves: set[asyncio.Task[None]] = set()
        self._may_log = Occasionally()
        self.catch_up = CatchUp(broker, metrics, recovery_messages)

    async def start(self) -> None:
        await self.broker.start(self)

    async def close(self) -> None:
        """End deliveries and give the broker back."""
        for feed in self._feeds.values():
            if feed.leaving is not None:
                feed.leaving.cancel()
            if feed.subscribed is not None:
                feed.subscribed.cancel()
            if feed.forgetting is not None:
                feed.forgetting.cancel()
        if self._turn_handle is not None:
            self._turn_handle.cancel()
        for task in self._leaves:
            task.cancel()
        self.catch_up.close()
        await self.broker.close()
        self._feeds.clear()

    def __len__(self) -> int:
        """Channels that are kept, those included that are about to be left."""
        return len(self._feeds)

    @property
    def channels(self) -> dict[str, int]:
        """Channels with listeners, and how many."""
        return {feed.channel: len(feed) for feed in self._feeds.values() if feed.groups}

    async def confirmed(self, channel: str) -> None:
        """Wait until the broker has confirmed a channel that is listened to.

        Raises:
            BrokerUnavailable: It did not, in time.
        """
        feed = self._feeds.get(channel)
        if feed is not None and feed.subscribed is not None:
            await asyncio.shield(feed.subscribed)

    def is_heard(self, channel: str) -> bool:
        """Whether the broker has confirmed a channel: what is published arrives."""
        feed = self._feeds.get(channel)
        if feed is None or feed.subscribed is None:
            return False
        return feed.subscribed.done() and not _has_failed(feed.subscribed)

    # -- listeners --------------------------------------------------------------

    async def listen(self, channel: str, listener: Listener) -> Position | None:
        """Feed a listener; on return a message published now will reach it.

        Returns:
            Where the channel stood when this process last heard it, if it did.

        Raises:
            BrokerUnavailable: The broker did not confirm in time; the listener is
                not fed.
        """
        feed = self._stay(channel)
        feed.add(listener)
        try:
            await self.subscribed(feed)
        except BaseException:
            self.leave(channel, listener)
            raise
        return feed.position

    def admission(self, channel: str) -> Admission:
        """A way in that begins at a position; see `Admission`."""
        return Admission(self, channel)

    def hold(self, channel: str) -> Feed:
        """Keep a channel, and what arrives on it, until `release`."""
        feed = self._stay(channel)
        keep_log(feed)
        return feed

    def release(self, feed: Feed) -> None:
        """An admission needs its channel no more."""
        drop_log(feed, self._loop)
        self._leave_soon(feed)

    def _stay(self, channel: str) -> Feed:
        feed = self._feeds.get(channel)
        if feed is None:
            feed = self._feeds[channel] = Feed(channel)
        if feed.leaving is not None:
            feed.leaving.cancel()
            feed.leaving = None
        return feed

    async def subscribed(self, feed: Feed) -> None:
        """Make the broker deliver a channel; one request for all who wait.

        Raises:
            BrokerUnavailable: It did not confirm in time.
        """
        if feed.subscribed is None or _has_failed(feed.subscribed):
            feed.subscribed = asyncio.create_task(self.broker.subscribe(feed.channel))
            # Whoever waits hears of a failure; where nobody does, nobody misses it.
            feed.subscribed.add_done_callback(_has_failed)
        subscribed = feed.subscribed
        if not subscribed.done():
            try:
                await asyncio.shield(subscribed)
            except BaseException:
                if subscribed.done() and feed.subscribed is subscribed:
                    feed.subscribed = None
                raise

    def leave(self, channel: str, listener: Listener) -> None:
        """Feed a listener no more; unknown ones are fine."""
        feed = self._feeds.get(channel)
        if feed is not None and feed.discard(listener):
            self._leave_soon(feed)

    def _leave_soon(self, feed: Feed) -> None:
        if not feed.groups and not feed.holds and feed.leaving is None:
            feed.leaving = self._loop.call_later(LEAVE_DELAY_S, self._left, feed)

    def _left(self, feed: Feed) -> None:
        feed.leaving = None
        if feed.groups or feed.holds or self._feeds.get(feed.channel) is not feed:
            return
        del self._feeds[feed.channel]
        self._backlog_bytes -= sum(len(message.raw) for message in feed.pending)
        feed.pending.clear()
        task = asyncio.create_task(self._unsubscribe(feed))
        self._leaves.add(task)
        task.add_done_callback(self._leaves.discard)

    async def _unsubscribe(self, feed: Feed) -> None:
        try:
            # A new feed of the same channel owns the subscription by now.
            if feed.channel not in self._feeds:
                await self.broker.unsubscribe(feed.channel)
        except Exception:
            self.metrics.count("unsubscribe_failed")
            logger.exception("leaving %r failed", feed.channel)

    # -- what the broker delivers ----------------------------------------------

    def deliver(self, channel: str, data: bytes) -> None:
        feed = self._feeds.get(channel)
        if feed is None:
            return
        try:
            message = self._envelope.parse(channel, data)
        except MalformedMessage as error:
            self.metrics.count("malformed_messages")
            if self._may_log(channel):
                logger.warning("skipped a malformed message on %r: %s", channel, error)
            return
        if not self._is_next(feed, message.position):
            return
        if feed.log is not None and not feed.log.arrived(message):
            feed.log = Log()
            feed.log.arrived(message)
        feed.arrived += 1
        feed.pending.append(message)
        self._backlog_bytes += len(message.raw)
        if not feed.is_flushing:
            feed.is_flushing = True
            self._due.append(feed)
            if self._turn_handle is None:
                self._turn_handle = self._loop.call_soon(self._turn)
        if self._backlog_bytes > BACKLOG_HIGH_BYTES and not self._is_paused:
            self._is_paused = True
            self.metrics.count("backlog_pauses")
            self.broker.pause()

    def _is_next(self, feed: Feed, position: Position) -> bool:
        if position.offset == 0:
            return True
        known = feed.position
        if known is None:
            top, feed.read_top = feed.read_top, None
            is_ours = top is None or position.epoch == top.epoch
            if not is_ours or (top is not None and position.offset > top.offset + 1):
                self._position_lost(feed)
        else:
            if known.epoch == position.epoch and position.offset <= known.offset:
                self.metrics.count("duplicate_messages")
                return False
            if position != Position(known.epoch, known.offset + 1):
                self._position_lost(feed)
        feed.position = position
        return True

    def resubscribed(self, channel: str) -> None:
        feed = self._feeds.get(channel)
        if feed is not None:
            # What comes next sets the position anew.
            feed.position = feed.read_top = None
            self._position_lost(feed)

    def _position_lost(self, feed: Feed) -> None:
        self.metrics.count("positions_lost")
        if feed.log is not None:
            feed.log = Log()
        for listener in feed.listeners():
            try:
                listener.position_lost(feed.channel)
            except Exception:
                self.metrics.count("listener_errors")
                logger.exception("a listener of %r failed", feed.channel)

    # -- the flush ---------------------------------------------------------------

    def _turn(self) -> None:
        """Write for one turn of the loop; channels take turns in slices of writes."""
        self._turn_handle = None
        while self._due:
            self._running.append(self._flush(self._due.popleft()))
        for _ in range(len(self._running)):
            flush = self._running.popleft()
            if next(flush, flush) is not flush:
                self._running.append(flush)
        if self._running or self._due:
            self._turn_handle = self._loop.call_soon(self._turn)
        if self._is_paused and self._backlog_bytes < BACKLOG_LOW_BYTES:
            self._is_paused = False
            self.broker.resume()

    def _flush(self, feed: Feed) -> Generator[None, None, None]:
        """Hand a channel's waiting messages to its listeners; yields between slices."""
        messages = self._take(feed)
        first = feed.arrived - len(feed.pending) - len(messages)
        for group in list(feed.groups.values()):
            self.metrics.count("deliveries", len(group) * len(messages))
            try:
                yield from group.give(messages, first, self.metrics)
            except Exception:
                # A framing raised: the other kinds of listeners get their messages.
                self.metrics.count("listener_errors")
                logger.exception("messages of %r could not be framed", feed.channel)
        feed.is_flushing = False
        if feed.pending:
            feed.is_flushing = True
            self._due.append(feed)

    def _take(self, feed: Feed) -> list[Message]:
        size = 0
        count = 0
        for message in feed.pending:
            size += len(message.raw)
            count += 1
            if size >= BATCH_BYTES:
                break
        messages = feed.pending[:count]
        del feed.pending[:count]
        self._backlog_bytes -= size
        return messages


def _has_failed(subscribed: asyncio.Task[None]) -> bool:
    if not subscribed.done():
        return False
    return subscribed.cancelled() or subscribed.exception() is not None
