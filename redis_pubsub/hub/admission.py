"""Letting a listener into a channel at a position: nothing twice, nothing missed."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from ..exceptions import PositionLost
from ..messages import Position
from .listeners import Listener
from .log import Log, Past

if TYPE_CHECKING:
    from .feeds import Feed
    from .hub import Hub

_FROM_THE_FIRST = Position("", 0)
LOG_KEPT_S = 1.0
"""How long a log outlives the last admission: a storm comes back over seconds."""


class Admission:
    """One listener on its way into one channel.

    The order matters: the broker delivers first, the stream is read then, and between the
    last look at both and the first message fed there is no ``await``::

        async with hub.admission("room:1") as admission:
            await admission.prepare(since)
            past = admission.admit(listener)
            # whatever is written to the listener here, it gets before live messages
    """

    def __init__(self, hub: Hub, channel: str) -> None:
        self._hub = hub
        self._channel = channel
        self._feed: Feed | None = None
        self._asked: asyncio.Future[None] | None = None
        self._since: Position | None = None
        self._replay = 0
        self._is_skipped = False

    async def __aenter__(self) -> Admission:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Ask the broker for the channel, and keep what arrives. Does not wait, so that
        those who enter several ask for all of them first."""
        self._feed = self._hub.hold(self._channel, keeps_log=not self._is_skipped)
        self._asked = self._hub.ask_for(self._feed)

    @property
    def is_heard(self) -> bool:
        """Whether the broker delivers the channel: `open` would not wait."""
        return self._feed is not None and self._hub.is_heard_by(self._feed)

    async def open(self) -> None:
        """Hear the channel: `begin`, if nobody did, and wait for the broker.

        Raises:
            BrokerUnavailable: The broker did not confirm in time.
        """
        if self._feed is None:
            self.begin()
        assert self._asked is not None, "begun"
        try:
            if not self.is_heard:
                # What was asked then, and not anew: of many that failed together each
                # would be waited for once more, one after the other.
                await asyncio.shield(self._asked)
        except BaseException:
            self.close()
            raise

    def ask_ahead(
        self, since: Position | None = None, *, begins: bool = False, replay: int = 0
    ) -> None:
        """Let what `prepare` will wait for be read, if it has to be: who prepares several
        asks for all of them first, and they share a round trip."""
        assert self._feed is not None, "open() comes first"
        wanted = _FROM_THE_FIRST if since is None and replay else since
        self._hub.catch_up.ask_ahead(self._feed, wanted, begins)

    async def prepare(
        self, since: Position | None = None, *, begins: bool = False, replay: int = 0
    ) -> None:
        """Find out what the listener has missed.

        Args:
            since: The last position it saw; ``None`` if it only wants to know the top.
            begins: Begin a history where there is none: messages to come will have one.
            replay: Without ``since``: how many of the last messages it is to get.

        Raises:
            BrokerUnavailable: The stream could not be read.
            PositionLost: The channel breaks faster than it can be read.
        """
        assert self._feed is not None, "open() comes first"
        self._since, self._replay = since, replay
        wanted = _FROM_THE_FIRST if since is None and replay else since
        await self._hub.catch_up.fill(self._feed, wanted, begins)

    def skip(self) -> None:
        """Before `begin`, instead of `prepare`: the listener does not care where the
        channel stands."""
        self._is_skipped = True

    def peek(self) -> Past:
        """What `admit` would say at this moment.

        Raises:
            PositionLost: Messages were missed since `prepare`; prepare again.
        """
        assert self._feed is not None, "open() comes first"
        log = self._feed.log
        if log is None or not log.is_read:
            raise PositionLost(self._channel)
        return log.past(self._since)

    def admit(self, listener: Listener) -> Past:
        """Feed the listener from here on. What it is told of the past, and what it is
        sent in this turn of the loop, comes before the first message.

        Raises:
            PositionLost: Messages were missed since `prepare`; prepare again.
        """
        feed = self._feed
        assert feed is not None, "open() comes first"
        if self._is_skipped:
            feed.add(listener)
            return Past(None, [], False)
        log = feed.log
        if log is None or not log.is_read:
            raise PositionLost(self._channel)
        past = log.past(self._since, replay=self._replay)
        known = feed.position
        is_ahead = past.position is not None and (
            known is None
            or known.epoch != past.position.epoch
            or known.offset < past.position.offset
        )
        if known is None:
            feed.read_top = past.position
        feed.add(listener, after=log.top if is_ahead else 0)
        return past

    def close(self) -> None:
        """Done, or given up; idempotent."""
        feed, self._feed = self._feed, None
        if feed is not None:
            self._hub.release(feed, keeps_log=not self._is_skipped)


def keep_log(feed: Feed) -> None:
    """An admission begins that wants to know what arrives."""
    feed.logs += 1
    if feed.log is None:
        feed.log = Log()
    if feed.forgetting is not None:
        feed.forgetting.cancel()
        feed.forgetting = None


def drop_log(feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
    """Such an admission ended."""
    feed.logs -= 1
    if feed.logs == 0:
        feed.forgetting = loop.call_later(LOG_KEPT_S, _forget, feed)


def _forget(feed: Feed) -> None:
    feed.forgetting = None
    feed.log = None
