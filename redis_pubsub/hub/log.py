"""A stretch of a channel's history without holes, from a read up to what came last."""

from __future__ import annotations

from typing import NamedTuple

from ..broker import History
from ..messages import Message, Position

LOG_BYTES = 16_777_216
"""What a log may hold; beyond it begins anew, and who waits for it tries again."""


class Past(NamedTuple):
    """What a listener has to know of a channel before it is fed.

    Attributes:
        position: Where the channel stands; ``None`` if it has no history.
        missed: What came after the position that was asked for, oldest first, every
            offset once; empty if it was not recovered. Where none was asked for, the last
            messages, if those were.
        is_recovered: Whether ``missed`` is proven to be everything.
    """

    position: Position | None
    missed: list[Message]
    is_recovered: bool


class Log:
    """What is known of a channel while somebody is being let in.

    Before its first read it only collects what arrives. Afterwards it reaches without a
    hole from ``start`` (an offset that is not included) up to ``top``.
    """

    def __init__(self) -> None:
        self.is_read = False
        self.epoch = ""
        self.start = 0
        self.top = 0
        self._is_all = False
        self._messages: list[Message] = []
        self._bytes = 0

    @property
    def position(self) -> Position | None:
        return Position(self.epoch, self.top) if self.epoch else None

    def arrived(self, message: Message) -> bool:
        """Take what the broker delivered; whether the log still has no hole."""
        position = message.position
        if position.offset == 0:
            return True
        if self.is_read:
            if position.epoch == self.epoch and position.offset <= self.top:
                return True
            if position != Position(self.epoch, self.top + 1):
                return False
            self.top += 1
        self._messages.append(message)
        self._bytes += message.size_bytes
        return self._bytes <= LOG_BYTES

    def read(self, history: History, since: int | None) -> bool:
        """Take what a read of the stream's tail brought; whether there is no hole.

        Args:
            history: The read.
            since: The offset it was asked to begin after.
        """
        epoch, top = history.position.epoch, history.position.offset
        newer = [m for m in self._messages if m.position.offset > top]
        stored: list[Message] = []
        for message in reversed(history.messages):
            if message.position.offset != top - len(stored):
                break
            stored.append(message)
        stored.reverse()
        for number, message in enumerate(newer, top + 1):
            if message.position != Position(epoch, number):
                return False
        if any(m.position.epoch != epoch for m in self._messages):
            return False
        self.is_read = True
        self.epoch, self.start = epoch, top - len(stored)
        self.top = top + len(newer)
        self._messages = stored + newer
        self._bytes = sum(message.size_bytes for message in self._messages)
        # Whoever asks for more than that will not be helped by another read.
        self._is_all = since is not None and since < self.start
        return True

    def answers(self, since: Position | None, begins: bool) -> bool:
        """Whether `past` can be told without a further read."""
        if not self.is_read:
            return False
        if not self.epoch:
            return not begins
        if since is None:
            return True
        if since.epoch not in ("", self.epoch) or since.offset > self.top:
            # Perhaps it is the log that is out of date.
            return False
        return since.offset >= self.start or self._is_all

    def past(self, since: Position | None, *, replay: int = 0) -> Past:
        """What a listener at a position has missed.

        Source: the recovery rule of the Centrifuge protocol: the epoch is the same (or
        unknown to the client), and what is known joins the client's offset to the top.
        """
        if since is None:
            return Past(self.position, self._messages[-replay:] if replay else [], False)
        is_recovered = (
            bool(self.epoch)
            and since.epoch in ("", self.epoch)
            and self.start <= since.offset <= self.top
        )
        missed = self._messages[since.offset - self.start :] if is_recovered else []
        return Past(self.position, missed, is_recovered)
