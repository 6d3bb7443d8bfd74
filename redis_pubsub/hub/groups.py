"""The listeners of a channel by kind, and what a flush gives them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from ..frames import Framing
from ..messages import Message
from ..metrics import Metrics
from .batches import Batch, failed, framed, wanted_of
from .listeners import Listener, viewer_of
from .parts import Parts, ViewBatch, parts_of, taker_of
from .viewers import Viewers

WRITES_PER_TURN = 256
"""After so many writes a flush lets the loop serve others."""
_NO_OFFSETS: dict[Listener, int] = {}
"""Shared by all who need none; never written to."""


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
            whole = b"".join(framed(messages, self.framing, metrics))
        for take in self._all_takers():
            try:
                take(whole)
            except Exception:
                failed(messages, metrics)
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
        batch = Batch(messages, self.framing, first, metrics)
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
                    failed(messages, metrics)
            if begin + WRITES_PER_TURN < len(takers):
                yield

    def _give_parts(
        self, batch: Batch, listeners: Sequence[Listener], metrics: Metrics
    ) -> Generator[None, None, None]:
        for count, listener in enumerate(listeners, 1):
            joined_at = self._joined_at.get(listener)
            if joined_at is None:
                continue
            try:
                batch.give_part(listener, joined_at, self._after.get(listener, 0))
            except Exception:
                failed(batch.messages, metrics)
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
                        failed(messages, metrics)
                yield

    def _give_each(
        self, batch: ViewBatch, first: int, listeners: list[Listener], metrics: Metrics
    ) -> Generator[None, None, None]:
        for count, listener in enumerate(listeners, 1):
            joined_at = self._joined_at.get(listener)
            if joined_at is not None:
                try:
                    after = self._after.get(listener, 0)
                    wanted = wanted_of(batch.messages, first, listener, joined_at, after)
                    self._give_one(batch, listener, wanted, metrics)
                except Exception:
                    failed(batch.messages, metrics)
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
