"""Iterating, and showing how far that is."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Generic, TypeVar

from .sender import EXPIRE_S
from .work import Progress

T = TypeVar("T")


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
        if self._counts and isinstance(self._items, Sized):
            self.progress.reset(len(self._items))
        with self._going_on() as bar:
            for item in self._items:
                yield item
                bar.tick()
        bar.done()

    async def __aiter__(self) -> AsyncIterator[T]:
        if self._counts and hasattr(self._items, "acount"):
            self.progress.reset(await self._items.acount())
        elif self._counts and isinstance(self._items, Sized):
            self.progress.reset(len(self._items))
        with self._going_on() as bar:
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    yield item
                    bar.tick()
            else:
                for item in self._items:
                    yield item
                    bar.tick()
        await bar.adone()

    @contextmanager
    def _going_on(self) -> Iterator[Progress]:
        self.progress.start()
        try:
            yield self.progress
        except BaseException as error:
            # Also where the loop was left before its end. That may be the collector's
            # doing, anywhere: nothing is waited for.
            self.progress.stopped_by(type(error))
            raise


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
