"""One channel as a process hears it, its listeners by kind, and what a flush gives them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..broker import History
from ..frames import Framing
from ..messages import Message, Position
from ..metrics import Metrics
from .listeners import Listener, Onlooker, viewer_of
from .log import Log
from .parts import Parts, ViewBatch, parts_of, taker_of
from .viewers import Viewer, Viewers

if TYPE_CHECKING:
    from .lanes import Lane

logger = logging.getLogger("redis_pubsub.hub")

WRITES_PER_TURN = 256
"""After so many writes a flush lets the loop serve others."""


_NO_OFFSETS: dict[Listener, int] = {}
"""Shared by all who need none; never written to."""


class Feed:
    """One channel as this process hears it.

    With slots, and nothing of its own before it is needed: where each user has a channel,
    there are as many of these as sockets.
    """

    __slots__ = (
        "_viewers",
        "arrived",
        "changes",
        "channel",
        "forgetting",
        "groups",
        "held",
        "held_bytes",
        "holds",
        "in_lane",
        "is_flushing",
        "is_strict",
        "is_torn",
        "keeps_newest",
        "lane",
        "leaving",
        "log",
        "logs",
        "looked_arrived",
        "looked_at",
        "newest",
        "onlookers",
        "pending",
        "position",
        "read_at",
        "read_top",
        "reading",
        "subscribed",
    )

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.groups: dict[Framing | None, Group] = {}
        self.onlookers: Sequence[Onlooker] = ()
        self.pending: list[Message] = []
        self.arrived = 0
        # Messages that each audience sees differently are rendered before they are pending.
        self.lane: Lane | None = None
        self.in_lane = 0
        self.is_strict = False
        self.changes = 0
        self._viewers: list[Viewer] | None = None
        self.position: Position | None = None
        # Where the stream stood when nothing had arrived here yet.
        self.read_top: Position | None = None
        # What arrived while a hole before it is read; `None` if there is none.
        self.held: list[Message] | None = None
        self.held_bytes = 0
        # Whether the connection was lost again since the hole's last read was sent.
        self.is_torn = False
        self.looked_arrived = -1
        self.looked_at = 0.0
        # For clients that skip to it after they were slow.
        self.keeps_newest = False
        self.newest: Message | None = None
        self.log: Log | None = None
        # Admissions under way, and how many of them need the log.
        self.holds = self.logs = 0
        self.forgetting: asyncio.TimerHandle | None = None
        self.reading: asyncio.Future[History] | None = None
        self.read_at = 0.0
        self.is_flushing = False
        self.leaving: asyncio.TimerHandle | None = None
        # Done once the broker has confirmed the channel.
        self.subscribed: asyncio.Future[None] | None = None

    def add(self, listener: Listener, *, after: int = 0) -> None:
        """Feed a listener what arrives from now on, and of that nothing up to an offset."""
        group = self.groups.get(listener.framing)
        if group is None:
            group = self.groups[listener.framing] = Group(listener.framing)
        group.add(listener, self.arrived, after)
        self.changes += 1
        self._viewers = None

    def discard(self, listener: Listener) -> bool:
        """Whether the listener was there."""
        group = self.groups.get(listener.framing)
        if group is None or not group.discard(listener):
            return False
        if not len(group):
            del self.groups[listener.framing]
        self.changes += 1
        self._viewers = None
        return True

    def viewers(self) -> list[Viewer]:
        """Who looks, each once; kept until somebody comes or goes."""
        if self._viewers is None:
            found = map(viewer_of, self.listeners())
            self._viewers = list(dict.fromkeys(each for each in found if each is not None))
        return self._viewers

    def listeners(self) -> list[Listener]:
        return [listener for group in self.groups.values() for listener in group]

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))


class Group:
    """The listeners of a channel that get the same bytes (or the messages themselves).

    The usual flush is a loop over bound methods and nothing else: the list of them is
    kept until somebody joins or leaves.
    """

    __slots__ = (
        "_after",
        "_changes",
        "_joined_at",
        "_listeners",
        "_newest",
        "_parts",
        "_parts_of",
        "_takers",
        "framing",
    )

    def __init__(self, framing: Framing | None) -> None:
        self.framing = framing
        # The value is the sequence number of the first message that the listener may
        # get, so that it misses and repeats none of a running flush.
        self._joined_at: dict[Listener, int] = {}
        self._newest = 0
        # Offsets that some were told of before they arrived here.
        self._after = _NO_OFFSETS
        self._takers: list[Callable[[Any], None]] | None = None
        self._listeners: Sequence[Listener] = ()
        self._changes = 0
        # Listeners by audience, for one kind of message, as of some change of viewers.
        self._parts: Parts | None = None
        self._parts_of: tuple[str, int] | None = None

    def __len__(self) -> int:
        return len(self._joined_at)

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._joined_at)

    def add(self, listener: Listener, arrived: int, after: int = 0) -> None:
        self._joined_at[listener] = self._newest = arrived
        if after:
            if self._after is _NO_OFFSETS:
                self._after = {}
            self._after[listener] = after
        self._takers = None
        self._listeners = ()
        self._parts = None

    def discard(self, listener: Listener) -> bool:
        """Whether the listener was there."""
        if self._joined_at.pop(listener, None) is None:
            return False
        self._forget([listener])
        # Not kept until the next message: it may be long in coming.
        self._takers = None
        self._listeners = ()
        self._parts = None
        self._changes += 1
        return True

    def renew(self) -> None:
        """Look up anew how each listener takes messages."""
        self._takers = None
        self._listeners = ()

    def give_at_once(self, messages: list[Message], first: int, metrics: Metrics) -> bool:
        """What `give` does, where the listeners are few and all get everything: the case
        of a channel per user, in which what a flush costs besides writing counts most.

        Returns:
            Whether it was such a case; if not, nothing was done.
        """
        if len(self._joined_at) > WRITES_PER_TURN or self._newest > first or self._after:
            return False
        for message in messages:
            if message.is_judged or message.header.exclude:
                return False
        whole: Any = messages
        if self.framing is not None:
            whole = b"".join(_framed(messages, self.framing, metrics))
        for take in self._all_takers():
            try:
                take(whole)
            except Exception:
                _failed(messages, metrics)
        return True

    def _all_takers(self) -> list[Callable[[Any], None]]:
        if self._takers is None:
            self._listeners = list(self._joined_at)
            self._takers = [taker_of(listener) for listener in self._listeners]
        return self._takers

    def give(
        self, messages: list[Message], first: int, metrics: Metrics, viewers: Viewers
    ) -> Generator[None, None, None]:
        """Hand messages to every listener; yields between slices of writes.

        Args:
            messages: What the channel brought, in order.
            first: Sequence number of the first of them.
            metrics: Counts what listeners raise.
            viewers: Who looks at messages that are judged.
        """
        if any(message.is_judged for message in messages):
            yield from self._give_views(messages, first, metrics, viewers)
            self._forget_offsets(messages[-1].position.offset)
            return
        batch = _Batch(messages, self.framing, first, metrics)
        excluded = {message.header.exclude for message in messages} - {""}
        if excluded or self._newest > first or self._after:
            yield from self._give_parts(batch, list(self._joined_at), metrics)
            self._forget_offsets(messages[-1].position.offset)
            return
        takers = self._all_takers()
        listeners, changes = self._listeners, self._changes
        for begin in range(0, len(takers), WRITES_PER_TURN):
            if changes != self._changes:
                # Somebody left between two slices and must get nothing more.
                yield from self._give_parts(batch, listeners[begin:], metrics)
                return
            for take in takers[begin : begin + WRITES_PER_TURN]:
                try:
                    take(batch.whole)
                except Exception:
                    _failed(messages, metrics)
            if begin + WRITES_PER_TURN < len(takers):
                yield

    def _give_parts(
        self, batch: _Batch, listeners: Sequence[Listener], metrics: Metrics
    ) -> Generator[None, None, None]:
        for count, listener in enumerate(listeners, 1):
            joined_at = self._joined_at.get(listener)
            if joined_at is None:
                continue
            try:
                batch.give_part(listener, joined_at, self._after.get(listener, 0))
            except Exception:
                _failed(batch.messages, metrics)
            if count % WRITES_PER_TURN == 0:
                yield

    def _give_views(
        self, messages: list[Message], first: int, metrics: Metrics, viewers: Viewers
    ) -> Generator[None, None, None]:
        """`give`, where each audience sees something else."""
        batch = ViewBatch(messages, self.framing, metrics)
        label = batch.label
        excluded = {message.header.exclude for message in messages} - {""}
        if label is None or excluded or self._newest > first or self._after:
            yield from self._give_each(batch, first, list(self._joined_at), metrics)
            return
        state = (label, viewers.changes)
        if self._parts is None or self._parts_of != state:
            self._parts, self._parts_of = parts_of(self._joined_at, label), state
        changes = self._changes
        for audience, part in self._parts.items():
            whole, is_lost = batch.for_audience(audience)
            if is_lost:
                yield from self._give_each(batch, first, part.listeners, metrics)
                continue
            if not whole:
                metrics.count("audience_withheld", len(part.takers) * len(messages))
                continue
            for begin in range(0, len(part.takers), WRITES_PER_TURN):
                if changes != self._changes or state[1] != viewers.changes:
                    # Somebody left, or became another, between two slices.
                    rest = part.listeners[begin:]
                    yield from self._give_each(batch, first, rest, metrics)
                    break
                for take in part.takers[begin : begin + WRITES_PER_TURN]:
                    try:
                        take(whole)
                    except Exception:
                        _failed(messages, metrics)
                yield

    def _give_each(
        self, batch: ViewBatch, first: int, listeners: list[Listener], metrics: Metrics
    ) -> Generator[None, None, None]:
        for count, listener in enumerate(listeners, 1):
            joined_at = self._joined_at.get(listener)
            if joined_at is not None:
                try:
                    after = self._after.get(listener, 0)
                    wanted = _wanted(batch.messages, first, listener, joined_at, after)
                    self._give_one(batch, listener, wanted, metrics)
                except Exception:
                    _failed(batch.messages, metrics)
            if count % WRITES_PER_TURN == 0:
                yield

    def _give_one(
        self, batch: ViewBatch, listener: Listener, wanted: list[int], metrics: Metrics
    ) -> None:
        whole, is_lost = batch.for_viewer(viewer_of(listener), wanted)
        if is_lost:
            metrics.count("audience_gaps")
            listener.position_lost(batch.messages[0].channel)
        if not whole:
            if wanted and not is_lost:
                metrics.count("audience_withheld", len(wanted))
        elif listener in self._joined_at:
            # It is still fed: it does not count on having everything.
            taker_of(listener)(whole)

    def _forget_offsets(self, given: int) -> None:
        """Those told of offsets up to ``given`` need no special care any more."""
        self._forget([each for each, after in self._after.items() if after <= given])

    def _forget(self, listeners: Iterable[Listener]) -> None:
        if self._after:
            for listener in listeners:
                self._after.pop(listener, None)


class _Batch:
    """What one flush gives to the listeners of one kind, rendered once.

    Attributes:
        whole: For a listener that gets everything: the joined frames, or the messages.
    """

    def __init__(
        self,
        messages: list[Message],
        framing: Framing | None,
        first: int,
        metrics: Metrics,
    ) -> None:
        self.messages = messages
        self._first = first
        self._frames = _framed(messages, framing, metrics) if framing else None
        self.whole: Any = messages if self._frames is None else b"".join(self._frames)

    def give_part(self, listener: Listener, joined_at: int, after: int) -> None:
        """For one that may have joined after the first message, or sent one of them.

        Args:
            listener: Who gets it.
            joined_at: Sequence number of the first message it may get.
            after: Offset of the last message it was told of otherwise.
        """
        wanted = _wanted(self.messages, self._first, listener, joined_at, after)
        if not wanted:
            return
        if listener.framing is None:
            listener.offer([self.messages[index] for index in wanted])
        elif self._frames is not None:
            listener.write(b"".join(self._frames[index] for index in wanted))


def _wanted(
    messages: list[Message], first: int, listener: Listener, joined_at: int, after: int
) -> list[int]:
    """Which messages are for a listener; see `_Batch.give_part`."""
    return [
        index
        for index, message in enumerate(messages)
        if first + index >= joined_at
        and not 0 < message.position.offset <= after
        and not (
            message.header.exclude and message.header.exclude == listener.connection_id
        )
    ]


def _framed(messages: list[Message], framing: Framing, metrics: Metrics) -> list[bytes]:
    """The messages' frames; nothing in place of one that cannot be framed."""
    try:
        if len(messages) == 1:
            return [framing(messages[0])]
        return [framing(message) for message in messages]
    except Exception:
        frames = []
        for message in messages:
            try:
                frames.append(framing(message))
            except Exception:
                frames.append(b"")
                metrics.count("listener_errors")
                logger.exception("a message of %r could not be framed", message.channel)
        return frames


def _failed(messages: list[Message], metrics: Metrics) -> None:
    metrics.count("listener_errors")
    logger.exception("a listener of %r failed", messages[0].channel)
