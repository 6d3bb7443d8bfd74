"""Every listener gets every message: holes are noticed, read from the stream and filled.

A hole shows as an offset that jumps, as a reconnect (whatever was said meanwhile is
missing), or not at all, for which quiet channels are looked at now and then. One read of
the stream fills it for all listeners of the process. Only where the history no longer
reaches are they told that the position is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable

from ..broker import History
from ..exceptions import BrokerUnavailable, PubSubError
from ..messages import Message, Position, has_position, is_reserved
from ..metrics import Metrics
from .catchup import CatchUp
from .feeds import Feed
from .log import Log

logger = logging.getLogger("redis_pubsub.hub")

HELD_BYTES = 16_777_216
"""What may arrive on one channel while a hole in it is read; beyond it is lost."""
QUIET_S = 40.0
"""A channel on which so long nothing arrived is compared with its stream."""
LEARN_S = 0.02
"""Between two reads of where channels stand that are new to the process: where a connection
brings one of its own, a storm of them is a few reads and not one for each."""
NO_HISTORY = Position("", 0)
_LOOK_S = 10.0
_RETRY_FIRST_S = 0.1
_RETRY_MOST_S = 2.0
_ROUNDS = 5
"""Reads in a row that each find a new hole, until the position is given up."""


class Continuity:
    """Watches over the positions of one hub's feeds.

    Args:
        catch_up: Reads streams.
        metrics: Counts holes and losses.
        accept: Gives a message to a feed's listeners.
        feeds: The feeds there are.
        keeps_history: Whether a channel may have a history, as far as the settings say.
    """

    def __init__(
        self,
        catch_up: CatchUp,
        metrics: Metrics,
        accept: Callable[[Feed, Message], None],
        feeds: Callable[[], Iterable[Feed]],
        keeps_history: Callable[[str], bool],
    ) -> None:
        self._catch_up = catch_up
        self._metrics = metrics
        self._give = accept
        self._feeds = feeds
        self._keeps_history = keeps_history
        # Channels that are new, whose positions are read together.
        self._new: list[Feed] = []
        self._learning: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at quiet channels."""
        delay_s = _LOOK_S * random.uniform(0.8, 1.2)
        self._timer = self._loop.call_later(delay_s, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._learning is not None:
            self._learning.cancel()
        for task in self._tasks:
            task.cancel()

    # -- what arrives --------------------------------------------------------------------

    def take(self, feed: Feed, message: Message) -> None:
        """Take what the broker delivered: pass it on, hold it, or notice a hole."""
        if not message.position.offset:
            # It has no place in a history, so nothing can be missing before it.
            self._accept(feed, message)
        elif feed.held is not None:
            self._hold(feed, message)
        elif not self._is_hole(feed, message):
            self._accept(feed, message)
        else:
            self._metrics.count("holes_found")
            self._begin(feed)
            self._hold(feed, message)

    def learn(self, feed: Feed) -> None:
        """A channel is heard from now on: know where it stands, so that also the first
        message can be missed and found."""
        if not has_position(feed.channel) or feed.position is not None:
            return
        if not (self._keeps_history(feed.channel) or is_reserved(feed.channel)):
            # Nothing to read. Should another process keep one, the first message shows it.
            feed.read_top = NO_HISTORY
            return
        self._new.append(feed)
        if self._learning is None:
            # One that comes alone is not kept waiting: until it is known where it stands, a
            # lost connection cannot be made up for.
            self._learning = self._loop.call_soon(self._learn_new)

    def _learn_new(self) -> None:
        new, self._new = self._new, []
        self._learning = self._loop.call_later(LEARN_S, self._learn_new) if new else None
        # Of some, who came with them has read where they stand.
        unknown = [
            feed
            for feed in new
            if (feed.groups or feed.holds) and not (feed.position or feed.read_top)
        ]
        if unknown:
            self._run(self._learn(unknown))

    def resubscribed(self, feed: Feed) -> None:
        """The connection was lost and is back: whatever was said meanwhile is missing."""
        if feed.position is None and feed.read_top is None:
            self.lost(feed)
        elif feed.held is None:
            self._begin(feed)
        else:
            feed.is_torn = True

    def lost(self, feed: Feed) -> None:
        """Tell a channel's listeners that messages may be missing for good."""
        self._metrics.count("positions_lost")
        feed.position = None
        if feed.log is not None:
            feed.log = Log()
        for listener in feed.listeners():
            try:
                listener.position_lost(feed.channel)
            except Exception:
                self._metrics.count("listener_errors")
                logger.exception("a listener of %r failed", feed.channel)

    def _accept(self, feed: Feed, message: Message) -> None:
        position = message.position
        if position.offset:
            known = feed.position
            if known is not None and position.offset <= known.offset:
                self._metrics.count("duplicate_messages")
                return
            feed.position = position
            feed.read_top = None
        if feed.log is not None and not feed.log.arrived(message):
            feed.log = Log()
            feed.log.arrived(message)
        self._give(feed, message)

    def _is_hole(self, feed: Feed, message: Message) -> bool:
        """Whether something is missing before a message."""
        position = message.position
        if not position.offset:
            return False
        known = feed.position
        if known is None:
            known = feed.read_top
            # Nothing has arrived yet: what was said before is nobody's here.
            return known is not None and (
                known.epoch not in ("", position.epoch)
                or position.offset > known.offset + 1
            )
        return known.epoch != position.epoch or position.offset > known.offset + 1

    def _hold(self, feed: Feed, message: Message) -> None:
        assert feed.held is not None, "a hole is being read"
        feed.held.append(message)
        feed.held_bytes += message.size_bytes
        if feed.held_bytes > HELD_BYTES:
            logger.warning("too much arrived on %r while a hole was read", feed.channel)
            self._give_up(feed, None)

    # -- filling a hole ----------------------------------------------------------------

    def _begin(self, feed: Feed) -> None:
        feed.held, feed.held_bytes = [], 0
        self._run(self._fill(feed))

    def _run(self, work: object) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._metrics.count("listener_errors")
            logger.error("following a channel failed", exc_info=task.exception())

    async def _fill(self, feed: Feed) -> None:
        """Read what is missing and pass it on, then what was held meanwhile."""
        for _ in range(_ROUNDS):
            feed.is_torn = False
            history = await self._read(feed)
            if feed.held is None or history is None:
                return
            if not self._continues(feed, history):
                self._give_up(feed, history)
                return
            self._catch(feed, history)
            # Of what was missed since it was sent this read says nothing.
            if not feed.is_torn and self._release(feed):
                return
        self._give_up(feed, None)

    async def _read(self, feed: Feed) -> History | None:
        """The stream after the feed's position, however long Redis needs to be there;
        ``None`` once nobody listens."""
        delay_s = _RETRY_FIRST_S
        while feed.groups or feed.holds:
            known = feed.position or feed.read_top
            try:
                return await self._catch_up.read(feed, known, heals=True)
            except PubSubError:
                await asyncio.sleep(delay_s * random.uniform(0.5, 1))
                delay_s = min(_RETRY_MOST_S, 2 * delay_s)
        feed.held = None
        return None

    def _continues(self, feed: Feed, history: History) -> bool:
        """Whether a read joins what is known without a hole."""
        known = feed.position or feed.read_top
        top = history.position
        if known is None or not top.epoch:
            # A history that there is none of cannot have gone on.
            return known is not None and known.offset == 0
        if known.epoch not in ("", top.epoch) or top.offset < known.offset:
            return False
        newer = [m.position.offset for m in _after(history, known)]
        # The number first: it may be all that was said in a long night.
        return len(newer) == top.offset - known.offset and newer == list(
            range(known.offset + 1, top.offset + 1)
        )

    def _catch(self, feed: Feed, history: History) -> None:
        known = feed.position or feed.read_top
        missing = _after(history, known) if known is not None else []
        self._metrics.count("messages_repaired", len(missing))
        for message in missing:
            self._accept(feed, message)

    def _release(self, feed: Feed) -> bool:
        """Pass on what was held; whether all of it joined."""
        held = feed.held or []
        while held:
            if self._is_hole(feed, held[0]):
                return False
            self._accept(feed, held.pop(0))
        feed.held = None
        return True

    def _give_up(self, feed: Feed, history: History | None) -> None:
        held, feed.held = feed.held or [], None
        self.lost(feed)
        feed.read_top = history.position if history is not None else None
        for message in held:
            # Whatever it joins: its listeners know that something is missing.
            if feed.position is not None and self._is_hole(feed, message):
                feed.position = None
            self._accept(feed, message)

    # -- looking where nothing shows ---------------------------------------------------

    async def _learn(self, feeds: list[Feed]) -> None:
        # Asked for in one turn, so read in one round trip.
        for answer in [feed.reading or self._catch_up.ask(feed) for feed in feeds]:
            # If it fails, a reconnect cannot be repaired, and its listeners are told.
            with contextlib.suppress(BrokerUnavailable):
                await asyncio.shield(answer)

    def _look(self) -> None:
        """Compare quiet channels with their streams; many share a round trip."""
        self.start()
        now = self._loop.time()
        for feed in self._feeds():
            if feed.arrived != feed.looked_arrived:
                feed.looked_arrived, feed.looked_at = feed.arrived, now
            elif (
                now - feed.looked_at >= QUIET_S
                and feed.held is None
                and feed.groups
                and (feed.position or feed.read_top) is not None
                and has_position(feed.channel)
            ):
                feed.looked_at = now
                self._run(self._compare(feed))

    async def _compare(self, feed: Feed) -> None:
        known = feed.position or feed.read_top
        try:
            history = await self._catch_up.read(feed, known, heals=True)
        except PubSubError:
            return
        if feed.held is not None:
            return
        if not self._continues(feed, history):
            self._give_up(feed, history)
        elif known is not None and known == (feed.position or feed.read_top):
            if _after(history, known):
                self._metrics.count("holes_found")
            self._catch(feed, history)


def _after(history: History, known: Position) -> list[Message]:
    return [m for m in history.messages if m.position.offset > known.offset]
