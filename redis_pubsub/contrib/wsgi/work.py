"""A piece of work for a thread: for who makes it, who runs it and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, Protocol, TypeVar

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Work(Protocol[Answer_co]):
    """Something that a thread does."""

    def run(self, announce: Callable[[Answer_co], None], /) -> Answer_co:
        """Do it, in a thread; ``announce`` answers early and makes it a stream."""

    def is_wanted(self) -> bool:
        """Whether it is still worth starting; asked on the loop and in the thread."""

    def abandon(self) -> None:
        """Nobody waits for the answer: stop at the next occasion."""

    def discard(self) -> None:
        """It will never run: free what it holds."""


class Job(Generic[Answer]):
    """A piece of work, where it stands, and the future of its answer.

    Attributes:
        began_at: Of the monotonic clock; set by the thread that runs it.
    """

    __slots__ = ("answer", "began_at", "context", "is_stream", "work")

    def __init__(self, work: Work[Answer], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.answer: asyncio.Future[Answer] = loop.create_future()
        self.context = copy_context()
        self.is_stream = False
        self.began_at = 0.0
