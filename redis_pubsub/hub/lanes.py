"""Messages that each audience sees differently, on their way to a channel's listeners.

One lane a channel: whatever arrives behind a message that is being judged waits in it, so
that the order stays. A lane has one rendering under way at most, and is bounded: when it is
full, what waits in it is lost for the channel's listeners, who are told so and recover.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Sequence

from ..messages import EVERYONE, Judged, Message
from ..metrics import Metrics, Occasionally
from .feeds import Feed
from .flusher import Flusher
from .listeners import viewer_of
from .viewers import UNKNOWN, Judge, Passed, Viewer, Viewers

logger = logging.getLogger("redis_pubsub.hub")

LANE_MESSAGES = 1_000
LANE_BYTES = 4_194_304
"""What may wait in one lane."""
_BATCH = 64
_ROUNDS = 5
"""Renderings of one batch in a row that each find viewers changed, until they are told."""

Parts = dict[Hashable, Viewer]


class Lane:
    """What waits on one channel.

    Attributes:
        waiting: In order.
        taken: What is being judged.
        size_bytes: Of both.
        task: Works it off.
    """

    def __init__(self) -> None:
        self.waiting: deque[Message] = deque()
        self.taken: list[Message] = []
        self.size_bytes = 0
        self.task: asyncio.Task[None] | None = None
        # By kind: the audiences there are, until somebody comes, goes or changes.
        self.parts: dict[str, Parts] = {}
        self.parts_of: tuple[int, int] | None = None
        # By kind and audience: the offset of the last message that was not withheld.
        self.shown: dict[tuple[str, Hashable], int] = {}
        self.patience: int | None = None

    def __len__(self) -> int:
        return len(self.waiting) + len(self.taken)


class Lanes:
    """The lanes of one hub.

    Args:
        judge: Says who belongs to which audience, and what that gets; without one nobody
            gets anything.
        viewers: Whose audiences are asked for.
        flusher: Takes what was judged.
        metrics: Counts what is withheld or lost.
    """

    def __init__(
        self, judge: Judge | None, viewers: Viewers, flusher: Flusher, metrics: Metrics
    ) -> None:
        self._judge = judge
        self._viewers = viewers
        self._flusher = flusher
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_log = Occasionally()

    def open(self, feed: Feed) -> None:
        """Give a new feed its lane, if its channel is for judged messages alone."""
        if self._judge is not None and self._judge.is_strict(feed.channel):
            feed.is_strict, feed.lane = True, Lane()

    def give(self, feed: Feed, message: Message) -> None:
        """Pass a message on: at once if nothing has to be asked or waited for."""
        lane = feed.lane
        if message.is_judged:
            if lane is None:
                lane = feed.lane = Lane()
        elif lane is None:
            self._flusher.add(feed, message)
            return
        elif feed.is_strict and message.header.audience != EVERYONE:
            # Published past this package, or by a process with other settings.
            message = self._withheld(message)
        elif not lane:
            self._flusher.add(feed, message)
            return
        if self._is_full(lane, message):
            self._give_up(feed, lane)
        lane.waiting.append(message)
        lane.size_bytes += message.size_bytes
        # Counted now: who joins later has another way to know of it.
        feed.arrived += 1
        feed.in_lane += 1
        if lane.task is None:
            lane.task = self._loop.create_task(self._work(feed, lane))
            self._tasks.add(lane.task)
            lane.task.add_done_callback(self._done)

    def drop(self, feed: Feed) -> None:
        """Nobody listens any more."""
        if feed.lane is not None:
            feed.lane.waiting.clear()
            feed.lane.taken = []

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._metrics.count("listener_errors")
            logger.error("a lane has ended", exc_info=task.exception())

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _withheld(self, message: Message) -> Judged:
        self._metrics.count("audience_unjudged")
        if self._may_log(message.channel):
            logger.warning(
                "withheld an ordinary message on %r, whose messages are judged",
                message.channel,
            )
        withheld = Judged(message.channel, message.header, message.raw, message.position)
        withheld.is_for_nobody = True
        return withheld

    # -- when it is full -----------------------------------------------------------------

    def _is_full(self, lane: Lane, message: Message) -> bool:
        return bool(lane) and (
            len(lane) >= LANE_MESSAGES or lane.size_bytes + message.size_bytes > LANE_BYTES
        )

    def _give_up(self, feed: Feed, lane: Lane) -> None:
        """All that waits is lost: in its place the listeners get nothing, and are told."""
        self._metrics.count("audience_lanes_full")
        logger.error("rendering %r is too slow: its listeners recover", feed.channel)
        messages = [*lane.taken, *lane.waiting]
        lane.taken, lane.size_bytes = [], 0
        lane.waiting.clear()
        for message in messages:
            # Without any view, and without its content.
            gap = Judged(message.channel, message.header, b"", message.position)
            self._release(feed, gap)

    # -- working it off ------------------------------------------------------------------

    async def _work(self, feed: Feed, lane: Lane) -> None:
        try:
            while lane.waiting:
                count = min(_BATCH, len(lane.waiting))
                lane.taken = batch = [lane.waiting.popleft() for _ in range(count)]
                judged = [m for m in batch if isinstance(m, Judged) and not m.is_for_nobody]
                if judged and feed.groups:
                    await self._tried(feed, lane, judged)
                if lane.taken is batch:
                    lane.taken = []
                    for message in batch:
                        lane.size_bytes -= message.size_bytes
                        self._release(feed, message)
                    self._move_on(feed, lane, judged)
        finally:
            lane.task = None

    def _move_on(self, feed: Feed, lane: Lane, judged: list[Judged]) -> None:
        """A client's position is that of the last message it got: before one that is shown
        nothing falls out of the history, it is told where the channel stands."""
        if lane.patience is None:
            lane.patience = 0 if self._judge is None else self._judge.patience(feed.channel)
        if not lane.patience or not judged or not judged[-1].position.offset:
            return
        for label in {message.header.model for message in judged}:
            for audience in lane.parts.get(label, ()):
                before = lane.shown.get((label, audience), judged[0].position.offset - 1)
                seen = [m.position.offset for m in judged if m.views.get(audience)]
                shown = seen[-1] if seen else before
                top = judged[-1].position
                lane.shown[label, audience] = shown
                if top.offset - shown >= lane.patience:
                    lane.shown[label, audience] = top.offset
                    self._pass_by(feed, label, audience, Passed(shown, top))
        if len(lane.shown) > 2 * sum(map(len, lane.parts.values())):
            there = {(label, each) for label, parts in lane.parts.items() for each in parts}
            lane.shown = {key: at for key, at in lane.shown.items() if key in there}

    def _pass_by(self, feed: Feed, label: str, audience: Hashable, passed: Passed) -> None:
        for listener in feed.listeners():
            viewer = viewer_of(listener)
            tell = getattr(listener, "passed_by", None)
            if viewer is None or tell is None or viewer.audiences.get(label) != audience:
                continue
            try:
                tell(feed.channel, passed)
            except Exception:
                self._metrics.count("listener_errors")
                logger.exception("a listener of %r failed", feed.channel)

    def _release(self, feed: Feed, message: Message) -> None:
        feed.in_lane -= 1
        self._flusher.add(feed, message, arrived=0)

    async def _tried(self, feed: Feed, lane: Lane, judged: list[Judged]) -> None:
        try:
            for _ in range(_ROUNDS):
                changes = self._viewers.changes
                for label in {message.header.model for message in judged}:
                    parts = await self._parts(feed, lane, label)
                    some = [m for m in judged if m.header.model == label]
                    await self._views(some, parts)
                if self._viewers.changes == changes:
                    return
        except Exception:
            # Without views: the listeners are told that something is missing.
            self._metrics.count("audience_errors")
            logger.exception("messages of %r could not be judged", feed.channel)

    async def _parts(self, feed: Feed, lane: Lane, label: str) -> Parts:
        """The audiences of those who listen, with a viewer for each."""
        state = (feed.changes, self._viewers.changes)
        if lane.parts_of != state:
            lane.parts_of, lane.parts = state, {}
        known = lane.parts.get(label)
        if known is not None:
            return known
        viewers = feed.viewers()
        await ask(self._judge, self._viewers, label, viewers)
        parts: Parts = {}
        for viewer in viewers:
            parts.setdefault(viewer.audiences.get(label), viewer)
        is_whole = UNKNOWN not in parts and None not in parts
        if is_whole and state == (feed.changes, self._viewers.changes):
            lane.parts[label] = parts
        parts.pop(None, None)
        return parts

    async def _views(self, messages: Sequence[Judged], parts: Parts) -> None:
        wanted = {
            audience: viewer
            for audience, viewer in parts.items()
            if any(audience not in message.views for message in messages)
        }
        if wanted.pop(UNKNOWN, None) is not None:
            for message in messages:
                message.views[UNKNOWN] = None
        if not wanted:
            return
        if self._judge is None:
            found: list[dict[Hashable, Message | None]] = [
                dict.fromkeys(wanted) for _ in messages
            ]
        else:
            found = await self._judge.render(messages, wanted)
        for message, views in zip(messages, found, strict=True):
            message.views.update(views)


async def ask(
    judge: Judge | None, viewers: Viewers, label: str, asked: Sequence[Viewer]
) -> None:
    """Find out to which audience of a kind of message viewers belong, where that is not
    known; one that changes meanwhile stays without."""
    lacking = [v for v in asked if v.audiences.get(label, UNKNOWN) is UNKNOWN]
    if not lacking:
        return
    # `forget` puts another dictionary there: what was found out is then nobody's.
    before = [viewer.audiences for viewer in lacking]
    if judge is None:
        found: list[Hashable] = [UNKNOWN] * len(lacking)
    else:
        found = await judge.audiences(label, lacking)
    for audiences, audience in zip(before, found, strict=True):
        audiences[label] = audience
