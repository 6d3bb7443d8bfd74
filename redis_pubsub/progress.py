"""How far something is, for everybody who waits for it: from a view, a command or a worker.

What is said is always the state as it is, never a step: a viewer who missed ten of them, or
who comes late, sees the same as one who was there from the start. States are sent by a
thread beside the work, a few each second, so that neither Redis nor the number of steps
slows the work down, and nothing that goes wrong there breaks it.

States are sent at once, also inside a transaction: a bar that moves when the work has been
committed shows nothing. They pass by the outbox for the same reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sized,
)
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast
from weakref import WeakSet

from . import codec
from .addresses import personal_channel
from .conf import get_config
from .messages import Draft, check_channel_name, new_header
from .metrics import Occasionally
from .publishing.publisher import publisher

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

T = TypeVar("T")

logger = logging.getLogger("redis_pubsub.publishing")

PROGRESS, DONE, FAILED = "progress", "done", "failed"
"""The event of a state; also its ``state``."""
INTERVAL_S = 0.1
"""Between two states of one progress."""
RETRY_S = 1.0
GIVE_UP_S = 10.0
"""How long the last state is tried again while Redis does not take it."""
EXPIRE_S = 3600
_TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class State:
    """How far it is.

    Attributes:
        state: `PROGRESS`, `DONE` or `FAILED`.
        current: Steps that are done.
        total: Steps there are; ``None`` if nobody knows.
        label: What is being done, for people.
        reason: Why it failed, for people.
    """

    state: str
    current: int
    total: int | None
    label: str
    reason: str = ""


class Progress:
    """One piece of work on one channel.

    ::

        with Progress.for_user(request.user, "import", total=len(rows)) as progress:
            for row in rows:
                load(row)
                progress.tick()

    Leaving the block says "done", an exception "failed". Every method may be called from
    any thread and on the event loop; none waits for Redis but `done`, `fail` and the end
    of a plain ``with`` block in a thread, which wait until the last state is out. On the
    event loop ``async with``, `adone` and `afail` do that.

    Who may hear it is decided as for any channel. Two pieces of work want two channels.

    Args:
        channel: Its name.
        total: Steps there are; ``None`` if nobody knows.
        label: What is being done.
        expire_s: Seconds for which who comes late still finds the last state.

    Raises:
        InvalidChannelName: The name is empty, too long or has control characters.
        ValueError: ``total`` is negative, or ``expire_s`` under 1.
    """

    def __init__(
        self,
        channel: str,
        total: int | None = None,
        label: str = "",
        *,
        expire_s: int = EXPIRE_S,
    ) -> None:
        if expire_s < 1:
            raise ValueError(f"expire_s is a number of seconds from 1, not {expire_s}")
        self.channel = check_channel_name(channel)
        self._kind = PROGRESS
        self._current = 0
        self._total = _checked(total)
        self._label = _text(label)
        self._reason = ""
        self._sender = _Sender(self.channel, expire_s, self._snapshot)

    @classmethod
    def for_user(
        cls,
        user: AbstractBaseUser | int | str,
        topic: str,
        total: int | None = None,
        label: str = "",
        *,
        expire_s: int = EXPIRE_S,
    ) -> Self:
        """One that only a user may hear: by ``user:<primary key>:<topic>``.

        Args:
            user: The row, or its primary key.
            topic: What it is about.
            total: As for the class.
            label: As for the class.
            expire_s: As for the class.

        Raises:
            ValueError: The user is not logged in, or there is no topic.
        """
        pk = getattr(user, "pk", user)
        if pk is None or pk == "" or not topic:
            raise ValueError("a user's progress wants who is logged in, and a topic")
        return cls(personal_channel(str(pk), topic), total, label, expire_s=expire_s)

    @property
    def state(self) -> State:
        """How far it is, sent or not."""
        with self._sender.lock:
            return self._snapshot()

    @property
    def label(self) -> str:
        """What is being done; set it to say something else."""
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        with self._sender.lock:
            if self._kind == PROGRESS:
                self._label = _text(label)
                self._sender.say()

    def start(self) -> None:
        """Show it before its first step; entering a block does that."""
        with self._sender.lock:
            if not self._sender.has_said:
                self._sender.say()

    def tick(self, n: int = 1) -> None:
        """``n`` more steps are done. After the end, nothing."""
        # What each step costs: an addition. The state is made when it is sent.
        with self._sender.lock:
            if self._kind == PROGRESS:
                self._current += n
                self._sender.say()

    def reset(self, total: int | None = None) -> None:
        """Begin anew, with another number of steps; also after the end.

        Raises:
            ValueError: ``total`` is negative.
        """
        with self._sender.lock:
            self._total = _checked(total)
            self._kind, self._current, self._reason = PROGRESS, 0, ""
            self._sender.say()

    def done(self) -> None:
        """It has come to a good end. Said once; after a failure, nothing."""
        self._finish(DONE)
        self._sender.flush()

    def fail(self, reason: object = "") -> None:
        """It has come to a bad end; ``reason`` is shown to people. Said once."""
        self._finish(FAILED, reason)
        self._sender.flush()

    async def adone(self) -> None:
        """`done` for coroutines: waits until it is out."""
        self._finish(DONE)
        await asyncio.to_thread(self._sender.flush)

    async def afail(self, reason: object = "") -> None:
        """`fail` for coroutines: waits until it is out."""
        self._finish(FAILED, reason)
        await asyncio.to_thread(self._sender.flush)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.done()
        else:
            self.fail(_reason(kind))

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.adone()
        elif issubclass(kind, Exception):
            await self.afail(_reason(kind))
        else:
            # Cancelled: whoever did that does not wait for Redis.
            self._finish(FAILED, _reason(kind))

    def _finish(self, kind: str, reason: object = "") -> None:
        with self._sender.lock:
            if self._kind != PROGRESS:
                return
            if kind == DONE and self._total is not None:
                # A bar that ends at 99 of 100 looks like a failure.
                self._current = max(self._current, self._total)
            self._kind, self._reason = kind, _text(reason)
            self._sender.say(is_last=True)

    def _snapshot(self) -> State:
        return State(self._kind, self._current, self._total, self._label, self._reason)


class Tracked(Generic[T]):
    """What `progress` returns: iterate over it once, with ``for`` or ``async for``."""

    def __init__(
        self, items: Iterable[T] | AsyncIterable[T], on: Progress, *, counts: bool
    ) -> None:
        self._items = items
        self._counts = counts
        self.progress = on

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._items, Iterable):
            raise TypeError("these items come with `async for`")
        bar = self.progress
        if self._counts and isinstance(self._items, Sized):
            bar.reset(len(self._items))
        bar.start()
        try:
            for item in self._items:
                yield item
                bar.tick()
        except BaseException as error:
            # Also where the loop was left before its end. That may be the collector's
            # doing, anywhere: nothing is waited for.
            bar._finish(FAILED, _reason(type(error)))
            raise
        bar.done()

    async def __aiter__(self) -> AsyncIterator[T]:
        bar = self.progress
        if self._counts and hasattr(self._items, "acount"):
            bar.reset(await self._items.acount())
        elif self._counts and isinstance(self._items, Sized):
            bar.reset(len(self._items))
        bar.start()
        try:
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    yield item
                    bar.tick()
            else:
                for item in self._items:
                    yield item
                    bar.tick()
        except BaseException as error:
            bar._finish(FAILED, _reason(type(error)))
            raise
        await bar.adone()


def progress(
    items: Iterable[T] | AsyncIterable[T],
    *,
    channel: str | Progress,
    total: int | None = None,
    label: str = "",
    expire_s: int = EXPIRE_S,
) -> Tracked[T]:
    """Iterate, and show how far that is::

        for row in progress(rows, channel="import", label="Importing"):
            load(row)

    A step is done when the next item is asked for. A loop that is left early, by an
    exception or by ``break``, has failed; where leaving is fine, use `Progress` itself.

    Args:
        items: What to iterate over, with ``for`` or ``async for``.
        channel: The channel's name, or a `Progress` that was made already.
        total: How many; where it is not given, what ``len(items)`` says, or a queryset's
            ``acount()`` with ``async for``; indeterminate where nothing says it.
        label: What is being done.
        expire_s: As for `Progress`.
    """
    if not isinstance(channel, Progress):
        channel = Progress(channel, total, label, expire_s=expire_s)
    counts = channel.state.total is None
    return Tracked(items, channel, counts=counts)


class _Sender:
    """Sends the newest state, at most one each interval.

    Its thread is there while there is something to say: it ends by itself, so that
    nothing is left of work that never says it is done. Not a daemon: what was said last is
    sent before the process ends.
    """

    def __init__(self, channel: str, expire_s: int, snapshot: Callable[[], State]) -> None:
        self._channel = channel
        self._expire_s = expire_s
        self._snapshot = snapshot
        # Numbers of states: the newest, and the newest that Redis has.
        self._said = 0
        self._sent = 0
        self._next_at = 0.0
        self._may_log = Occasionally()
        self.forked()
        _senders.add(self)

    def forked(self) -> None:
        """Begin anew in a child process, which has none of the threads that hold these."""
        self.lock = threading.RLock()
        self._sending = threading.Lock()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_said(self) -> bool:
        return self._said > 0

    def say(self, *, is_last: bool = False) -> None:
        """Send the state as it is now, soon, unless a newer one comes first. The caller has
        the lock."""
        self._said += 1
        if is_last:
            self._hurry.set()
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="redis-pubsub-progress")
            try:
                thread.start()
            except RuntimeError:
                # No more threads, or the interpreter is about to end: `flush` sends it.
                return
            self._thread = thread

    def flush(self) -> None:
        """Send the newest state now, and wait for that. On an event loop, where nothing
        may wait, the thread does it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._send()

    def _work(self) -> None:
        failing_since: float | None = None
        while True:
            self._hurry.wait(max(0.0, self._next_at - time.monotonic()))
            now = time.monotonic()
            if self._send():
                failing_since = None
            elif failing_since is None:
                failing_since = now
            has_given_up = failing_since is not None and now - failing_since >= GIVE_UP_S
            if self._said != self._sent and not has_given_up:
                continue
            with self.lock:
                if has_given_up or self._said == self._sent:
                    # Whatever is said from here on begins another thread.
                    self._thread = None
                    return

    def _send(self) -> bool:
        """Send the newest state if it was not sent; whether Redis has it now."""
        with self._sending:
            # After a failure an end, too, waits before it is tried again.
            self._hurry.clear()
            # Without the lock, for which it would wait long where steps are quick. What is
            # changing meanwhile has a higher number, and is sent next.
            number, state = self._said, self._snapshot()
            if state.state != PROGRESS:
                # An end is said once, with all that belongs to it.
                with self.lock:
                    number, state = self._said, self._snapshot()
            if number == self._sent:
                return True
            try:
                publisher.send([self._draft(state)], strict=True)
            except Exception as error:
                self._next_at = time.monotonic() + RETRY_S
                publisher.metrics.count("publish_failed")
                if self._may_log(self._channel):
                    logger.error(
                        "the progress on %r could not be sent; said once a minute",
                        self._channel,
                        exc_info=error,
                    )
                return False
            self._next_at = time.monotonic() + INTERVAL_S
            self._sent = number
            return True

    def _draft(self, state: State) -> Draft:
        config = get_config()
        known = config.channel_options(self._channel)
        options = replace(
            known,
            history_size=max(1, known.history_size),
            history_ttl_s=self._expire_s,
        )
        raw = codec.encode(cast("Any", state))
        return Draft(self._channel, new_header(state.state), raw, options)


# Those of this process, for the sake of its children.
_senders: WeakSet[_Sender] = WeakSet()


def _forked() -> None:
    for sender in list(_senders):
        sender.forked()


os.register_at_fork(after_in_child=_forked)


def _checked(total: int | None) -> int | None:
    if total is not None and total < 0:
        raise ValueError(f"total is a number of steps or None, not {total}")
    return total


def _text(value: object) -> str:
    """Also a lazy translation."""
    return str(value)[:_TEXT_MAX]


def _reason(kind: type[BaseException]) -> str:
    """What people are told of an exception: its text may say what is not for them."""
    return "stopped" if not issubclass(kind, Exception) else kind.__name__
