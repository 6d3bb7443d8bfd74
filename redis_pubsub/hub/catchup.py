"""Reading what listeners missed: one read a channel, however many come back at once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from ..broker import TAIL, Broker, History, Read
from ..exceptions import BrokerUnavailable, PositionLost
from ..messages import Position
from ..metrics import Metrics
from .feeds import Feed
from .log import Log

logger = logging.getLogger("redis_pubsub.hub")

SPACING_S = 0.05
"""Between two reads of one channel; who asks meanwhile shares the second."""
_READS_PER_TRIP = 500
_ATTEMPTS = 5


@dataclass(slots=True)
class _Ask:
    """One read that is due, for all who wait for it."""

    done: asyncio.Future[History]
    due: float
    since: int | None
    begins: bool
    heals: str


class CatchUp:
    """Fills the logs of one hub's feeds.

    Args:
        broker: Whose streams are read.
        metrics: Counts reads.
        limit: Messages of one read at most.
    """

    def __init__(self, broker: Broker, metrics: Metrics, limit: int) -> None:
        self._broker = broker
        self._metrics = metrics
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._asks: dict[Feed, _Ask] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def fill(self, feed: Feed, since: Position | None, begins: bool) -> None:
        """Make a feed's log answer for a position, or find that nothing can.

        Raises:
            BrokerUnavailable: The stream could not be read.
            PositionLost: The channel breaks faster than it can be read.
        """
        for _ in range(_ATTEMPTS):
            if feed.log is not None and feed.log.answers(since, begins):
                return
            if feed.reading is not None:
                # Under way since before this question: perhaps it answers it too.
                await asyncio.shield(feed.reading)
                continue
            await asyncio.shield(self._ask(feed, since, begins, False).done)
            if feed.log is not None and feed.log.is_read:
                return
        raise PositionLost(feed.channel)

    def ask_ahead(self, feed: Feed, since: Position | None, begins: bool) -> None:
        """Begin what `fill` will wait for, without waiting."""
        if feed.log is not None and feed.log.answers(since, begins):
            return
        if feed.reading is None:
            self._ask(feed, since, begins, False)

    def ask(self, feed: Feed) -> asyncio.Future[History]:
        """Read where a channel stands; to be awaited behind ``asyncio.shield``."""
        return self._ask(feed, None, False, False).done

    async def read(
        self, feed: Feed, since: Position | None, *, heals: bool = False
    ) -> History:
        """Read a channel after a position; `fill` may share the read.

        Args:
            feed: The channel.
            since: Only messages after it (earlier ones may come along); ``None`` for the
                channel's own position alone.
            heals: The position is one that this process has seen: if the stream is behind
                it, its epoch ends, so that nobody takes other messages for those.

        Raises:
            BrokerUnavailable: The stream could not be read.
        """
        return await asyncio.shield(self._ask(feed, since, False, heals).done)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for ask in self._asks.values():
            ask.done.cancel()
        self._asks.clear()

    def _ask(self, feed: Feed, since: Position | None, begins: bool, is_seen: bool) -> _Ask:
        offset = since.offset if since is not None else None
        heals = since.epoch if since is not None and is_seen else ""
        ask = self._asks.get(feed)
        if ask is None:
            due = max(self._loop.time(), feed.read_at + SPACING_S)
            ask = _Ask(self._loop.create_future(), due, offset, begins, heals)
            self._asks[feed] = ask
            self._schedule()
        else:
            known = [each for each in (ask.since, offset) if each is not None]
            ask.since = min(known) if known else None
            ask.begins = ask.begins or begins
            ask.heals = ask.heals or heals
        return ask

    def _schedule(self) -> None:
        """Send what is due: not before the end of this turn, so that many go together."""
        if self._timer is not None:
            self._timer.cancel()
        due = min(ask.due for ask in self._asks.values())
        self._timer = self._loop.call_at(due, self._send)

    def _send(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = [(feed, ask) for feed, ask in self._asks.items() if ask.due <= now]
        for feed, ask in due:
            del self._asks[feed]
            feed.reading = ask.done
            feed.read_at = now
        for begin in range(0, len(due), _READS_PER_TRIP):
            task = asyncio.create_task(self._read(due[begin : begin + _READS_PER_TRIP]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._asks:
            self._schedule()

    async def _read(self, asks: list[tuple[Feed, _Ask]]) -> None:
        self._metrics.count("history_reads", len(asks))
        try:
            histories = await self._broker.read(
                [
                    Read(
                        feed.channel,
                        since=ask.since,
                        limit=0 if ask.since is None else self._limit,
                        order=TAIL,
                        begins=ask.begins,
                        heals=ask.heals,
                    )
                    for feed, ask in asks
                ]
            )
            # While nothing can arrive, the top may be of messages that should have.
            is_heard = self._broker.is_connected
            for (feed, ask), history in zip(asks, histories, strict=True):
                if feed.position is None and feed.read_top is None and is_heard:
                    feed.read_top = history.position
                if feed.log is not None and not feed.log.read(history, ask.since):
                    feed.log = Log()
        except BaseException as error:
            self._failed(asks, error)
            if not isinstance(error, BrokerUnavailable):
                raise
        else:
            for (feed, ask), history in zip(asks, histories, strict=True):
                feed.reading = None
                if not ask.done.done():
                    ask.done.set_result(history)

    def _failed(self, asks: list[tuple[Feed, _Ask]], error: BaseException) -> None:
        for feed, ask in asks:
            feed.reading = None
            if ask.done.done():
                continue
            if isinstance(error, Exception):
                ask.done.set_exception(error)
                # Whoever waits hears of it; where nobody does any more, nobody misses it.
                ask.done.exception()
            else:
                ask.done.cancel()
