"""One piece of work: what its code says of it, from any thread or on the event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..addresses import personal_channel
from ..messages import check_channel_name
from .sender import EXPIRE_S, Sender
from .state import DONE, FAILED, PROGRESS, State

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

_TEXT_MAX = 500


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
        self._sender = Sender(self.channel, expire_s, self._snapshot)

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
            self.stopped_by(kind)

    def stopped_by(self, kind: type[BaseException]) -> None:
        """An exception has ended it; sent soon, and not waited for."""
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
