"""The members of one process, and what Redis has yet to be told of them. No IO.

Every member that changed is due once, however often it changed: what is written is what
holds at that moment. So what waits for a Redis that is down is bounded by the number of
connections, and not by what they did.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Literal

from ..broker.presence import Change, Member
from ..exceptions import BrokerUnavailable

Key = tuple[str, str]
"""Channel and client."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """How a client entered a channel. Compared by identity: each entering is another."""

    user: str
    info: bytes
    by_user: bool
    announce: bool

    def change(
        self, key: Key, node: str, kind: Literal["enter", "restore", "exit"]
    ) -> Change:
        channel, client = key
        member = Member(client, self.user, node, self.info)
        return Change(channel, member, kind, self.by_user, self.announce)


@dataclass(slots=True)
class Batch:
    """What is written in one round trip.

    Attributes:
        entries: The members, with how they entered last.
        entering: Those that are there; the others have left.
        waiting: Whom to tell.
        emptied: Channels where the process has no members any more.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    entering: set[Key] = field(default_factory=set)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    emptied: set[str] = field(default_factory=set)

    def changes(self, node: str) -> list[Change]:
        return [
            entry.change(key, node, "enter" if key in self.entering else "exit")
            for key, entry in self.entries.items()
        ]


class Roster:
    """Who is there, who is due."""

    def __init__(self) -> None:
        self._there: dict[Key, Entry] = {}
        self._due: dict[Key, Entry] = {}
        # Whoever is waited for is due.
        self._waiting: dict[Key, asyncio.Future[None]] = {}
        self._on_channel: Counter[str] = Counter()
        self._emptied: set[str] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._there

    @property
    def keys(self) -> list[Key]:
        """Everybody who is there."""
        return list(self._there)

    @property
    def due(self) -> int:
        """How many members Redis has yet to be told of."""
        return len(self._due)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits to have entered."""
        return bool(self._waiting)

    def enter(self, key: Key, entry: Entry) -> asyncio.Future[None]:
        """Somebody comes; the future is done when Redis knows."""
        if key not in self._there:
            self._on_channel[key[0]] += 1
        self._there[key] = self._due[key] = entry
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[key] = waiting
        return waiting

    def exit(self, key: Key) -> None:
        """Somebody goes; unknown ones are fine."""
        entry = self._there.pop(key, None)
        if entry is not None:
            self._due[key] = entry
            self._on_channel[key[0]] -= 1
            if not self._on_channel[key[0]]:
                del self._on_channel[key[0]]
                self._emptied.add(key[0])

    def take(self, limit: int) -> Batch:
        """What to write now: those that somebody waits for come first."""
        batch = Batch()
        others = (key for key in self._due if key not in self._waiting)
        for key in list(islice(chain(self._waiting, others), limit)):
            batch.entries[key] = self._due.pop(key)
            if key in self._there:
                batch.entering.add(key)
            waiting = self._waiting.pop(key, None)
            if waiting is not None:
                batch.waiting.append(waiting)
        if self._emptied and not self._due:
            # A channel stays listed until all that was to be removed from it is.
            unsettled = {channel for channel, _ in batch.entries}
            batch.emptied = {
                channel
                for channel in self._emptied - unsettled
                if channel not in self._on_channel
            }
            self._emptied &= unsettled
        return batch

    def written(self, batch: Batch) -> None:
        """Redis knows."""
        for waiting in batch.waiting:
            waiting.set_result(None)

    def failed(self, batch: Batch, error: BrokerUnavailable) -> None:
        """Redis may know, or not: who waits is told, and is not there; exits stay due."""
        for key, entry in batch.entries.items():
            if key in batch.entering and self._there.get(key) is entry:
                self.exit(key)
            self._due.setdefault(key, entry)
        self._emptied |= batch.emptied
        _refuse(batch.waiting, error)

    def forget_exits(self) -> None:
        """Tell Redis nothing more of those who have left."""
        self._due = {
            key: entry
            for key, entry in self._due.items()
            if key in self._there or key in self._waiting
        }
        self._emptied.clear()

    def refuse(self, error: BrokerUnavailable) -> None:
        """Whoever waits to have entered has not."""
        for key in self._waiting:
            self.exit(key)
        _refuse(self._waiting.values(), error)
        self._waiting.clear()

    def again(
        self, keys: Iterable[Key], node: str, besides: Container[Key], *, joining: bool
    ) -> list[Change]:
        """Changes that write members again. Those that left meanwhile are left out, and
        those that are due, since writing these is news."""
        kind: Literal["enter", "restore"] = "enter" if joining else "restore"
        return [
            self._there[key].change(key, node, kind)
            for key in keys
            if key in self._there and key not in self._due and key not in besides
        ]


def _refuse(waiting: Iterable[asyncio.Future[None]], error: BrokerUnavailable) -> None:
    for future in waiting:
        future.set_exception(error)
        # Whoever waited may have been cancelled.
        future.exception()
