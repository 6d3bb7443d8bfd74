"""The hub: who listens to what in this process, and what the broker delivers to it.

Writing is ``flusher``'s, that nothing is missing ``continuity``'s.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from ..broker import Broker
from ..exceptions import MalformedMessage
from ..frames import Framing
from ..messages import Message, Position
from ..metrics import Metrics, Occasionally
from ..wire import Envelope
from .admission import Admission, drop_log, keep_log
from .catchup import CatchUp
from .continuity import Continuity
from .feeds import Feed
from .flusher import Flusher
from .lanes import Lanes
from .listeners import Listener, Onlooker
from .lossy import LATEST, Tap, Taps
from .viewers import Judge, Viewers

logger = logging.getLogger("redis_pubsub.hub")

LEAVE_DELAY_S = 1.0
"""How long a channel without listeners stays subscribed: page changes come and go."""


class Hub:
    """Feeds the listeners of one process.

    Args:
        broker: Where messages come from; started and closed with the hub.
        metrics: Where losses are counted.
        envelope: Reads what the broker delivers.
        recovery_messages: How many missed messages a listener may ask for.
        keeps_history: Whether a channel may have a history, as far as the settings say.
        judge: Says what each audience gets of messages that not everybody sees alike.

    Attributes:
        viewers: Who looks at such messages here.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        envelope: Envelope | None = None,
        *,
        recovery_messages: int = 1_000,
        keeps_history: Callable[[str], bool] = lambda channel: True,
        judge: Judge | None = None,
    ) -> None:
        self._envelope = envelope or Envelope()
        # What upper floors want to see of channels that somebody listens to: asked once
        # for each channel.
        self.watchers: list[Callable[[str], Onlooker | None]] = []
        self.broker = broker
        self.metrics = metrics
        self._feeds: dict[str, Feed] = {}
        self._loop = asyncio.get_running_loop()
        # Of all feeds that are heard: a task that is over is half a kilobyte.
        self._confirmed = self._loop.create_future()
        self._confirmed.set_result(None)
        self._leaves: set[asyncio.Task[None]] = set()
        self._may_log = Occasionally()
        self.taps = Taps(metrics)
        self.viewers = Viewers()
        self._flusher = Flusher(broker, metrics, self.viewers)
        self._lanes = Lanes(judge, self.viewers, self._flusher, metrics)
        self.catch_up = CatchUp(broker, metrics, recovery_messages)
        self._continuity = Continuity(
            self.catch_up,
            metrics,
            self._lanes.give,
            lambda: list(self._feeds.values()),
            keeps_history,
        )

    async def start(self) -> None:
        await self.broker.start(self)
        self._continuity.start()

    async def close(self) -> None:
        """End deliveries and give the broker back."""
        for feed in self._feeds.values():
            if feed.leaving is not None:
                feed.leaving.cancel()
            if feed.forgetting is not None:
                feed.forgetting.cancel()
        self._lanes.close()
        self._flusher.close()
        self.taps.close()
        self._continuity.close()
        for task in self._leaves:
            task.cancel()
        self.catch_up.close()
        await self.broker.close()
        self._feeds.clear()

    def __len__(self) -> int:
        """Channels that are kept, those included that are about to be left."""
        return len(self._feeds)

    @property
    def backlog_bytes(self) -> int:
        """What has arrived and was not yet written."""
        return self._flusher.backlog_bytes

    @property
    def channels(self) -> dict[str, int]:
        """Channels with listeners, and how many."""
        return {feed.channel: len(feed) for feed in self._feeds.values() if feed.groups}

    def listeners(self, channel: str) -> list[Listener]:
        """Who listens to a channel in this process."""
        feed = self._feeds.get(channel)
        return [] if feed is None else feed.listeners()

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

    def is_heard_by(self, feed: Feed) -> bool:
        """The same of a feed; a look, where `is_heard` asks."""
        return feed.subscribed is self._confirmed

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

    def tap(
        self,
        channel: str,
        policy: str,
        *,
        framing: Framing,
        write: Callable[[bytes], None],
        is_full: Callable[[], bool],
        on_gap: Callable[[], None],
        connection_id: str = "",
    ) -> Tap:
        """A way to a client that may miss some of a channel; see `Tap`.

        Args:
            channel: Which; the client listens to it meanwhile.
            policy: ``"latest"`` or ``"drop"``.
            framing: Makes a frame of a message.
            write: The way to the client.
            is_full: Whether the client is behind.
            on_gap: Told of missed messages, with ``"drop"``.
            connection_id: The client's connection.
        """
        is_latest = policy == LATEST
        if is_latest:
            self._stay(channel).keeps_newest = True
        return Tap(
            self.taps,
            framing=framing,
            write=write,
            is_full=is_full,
            newest=functools.partial(self._newest, channel) if is_latest else None,
            on_gap=on_gap,
            connection_id=connection_id,
        )

    def _newest(self, channel: str) -> Message | None:
        feed = self._feeds.get(channel)
        return None if feed is None or feed.is_flushing else feed.newest

    def hold(self, channel: str, *, keeps_log: bool) -> Feed:
        """Keep a channel, perhaps with what arrives on it, until `release`."""
        feed = self._stay(channel)
        feed.holds += 1
        if keeps_log:
            keep_log(feed)
        return feed

    def release(self, feed: Feed, *, keeps_log: bool) -> None:
        """An admission needs its channel no more."""
        feed.holds -= 1
        if keeps_log:
            drop_log(feed, self._loop)
        self._leave_soon(feed)

    def _stay(self, channel: str) -> Feed:
        feed = self._feeds.get(channel)
        if feed is None:
            feed = self._feeds[channel] = Feed(channel)
            self._lanes.open(feed)
            found = [watch(channel) for watch in self.watchers]
            feed.onlookers = tuple(each for each in found if each is not None)
        if feed.leaving is not None:
            feed.leaving.cancel()
            feed.leaving = None
        return feed

    def ask_for(self, feed: Feed) -> asyncio.Future[None]:
        """Ask the broker to deliver a channel, once for all who want it."""
        subscribed = feed.subscribed
        if subscribed is self._confirmed:
            return subscribed
        if subscribed is None or _has_failed(subscribed):
            feed.subscribed = subscribed = self.broker.subscribe(feed.channel)
            # First of all who wait for it.
            subscribed.add_done_callback(functools.partial(self._answered, feed))
        return subscribed

    async def subscribed(self, feed: Feed) -> None:
        """Make the broker deliver a channel, and wait until it does.

        Raises:
            BrokerUnavailable: It did not confirm in time.
        """
        subscribed = self.ask_for(feed)
        if subscribed is not self._confirmed:
            await asyncio.shield(subscribed)

    def _answered(self, feed: Feed, subscribed: asyncio.Future[None]) -> None:
        if feed.subscribed is subscribed and not _has_failed(subscribed):
            feed.subscribed = self._confirmed
            self._continuity.learn(feed)

    def leave(self, channel: str, listener: Listener) -> None:
        """Feed a listener no more; unknown ones are fine."""
        feed = self._feeds.get(channel)
        if feed is not None and feed.discard(listener):
            self._leave_soon(feed)

    def renew(self, channel: str, listener: Listener) -> None:
        """A listener's ``write`` is another one from now on."""
        feed = self._feeds.get(channel)
        group = None if feed is None else feed.groups.get(listener.framing)
        if group is not None:
            group.renew()

    def _leave_soon(self, feed: Feed) -> None:
        if not feed.groups and not feed.holds and feed.leaving is None:
            feed.leaving = self._loop.call_later(LEAVE_DELAY_S, self._left, feed)

    def _left(self, feed: Feed) -> None:
        feed.leaving = None
        if feed.groups or feed.holds or self._feeds.get(feed.channel) is not feed:
            return
        del self._feeds[feed.channel]
        self._lanes.drop(feed)
        self._flusher.drop(feed)
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
        self._continuity.take(feed, message)

    def resubscribed(self, channel: str) -> None:
        feed = self._feeds.get(channel)
        if feed is not None:
            self._continuity.resubscribed(feed)


def _has_failed(subscribed: asyncio.Future[None]) -> bool:
    if not subscribed.done():
        return False
    return subscribed.cancelled() or subscribed.exception() is not None
