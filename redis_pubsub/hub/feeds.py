"""One channel as a process hears it, and what one flush of it gives."""

from __future__ import annotations

import asyncio

from ..frames import Framing
from ..messages import Message, Position
from .listeners import Listener


class Feed:
    """One channel as this process hears it."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        # By kind of frame; the value is the sequence number of the first message that
        # the listener may get, so that it misses and repeats none of a running flush.
        self.groups: dict[Framing | None, dict[Listener, int]] = {}
        self.pending: list[Message] = []
        self.arrived = 0
        self.position: Position | None = None
        self.is_flushing = False
        self.leaving: asyncio.TimerHandle | None = None
        self.subscribed: asyncio.Task[None] | None = None

    @property
    def has_listeners(self) -> bool:
        return any(self.groups.values())

    def listeners(self) -> list[Listener]:
        return [listener for group in self.groups.values() for listener in group]


class Batch:
    """What one flush gives to the listeners of one kind, rendered once."""

    def __init__(
        self, messages: list[Message], framing: Framing | None, first: int
    ) -> None:
        self._messages = messages
        self._first = first
        self._frames = [framing(message) for message in messages] if framing else []
        self.joined = b"".join(self._frames)

    def give_part(self, listener: Listener, joined_at: int) -> None:
        """For one that joined after the first message, or sent one of them itself."""
        wanted = [
            index
            for index, message in enumerate(self._messages)
            if self._first + index >= joined_at
            and not (
                message.header.exclude and message.header.exclude == listener.connection_id
            )
        ]
        if not wanted:
            return
        if listener.framing is None:
            listener.offer([self._messages[index] for index in wanted])
        else:
            listener.write(b"".join(self._frames[index] for index in wanted))
