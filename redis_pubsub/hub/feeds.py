"""One channel as a process hears it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..broker import History
from ..frames import Framing
from ..messages import Message, Position
from .groups import Group
from .listeners import Listener, Onlooker, viewer_of
from .log import Log
from .viewers import Viewer

if TYPE_CHECKING:
    from .lanes import Lane


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
