"""What the hub feeds.

A listener may have a ``viewer``: whose eyes it has. Without one it gets nothing of what not
everybody sees alike. It may have ``passed_by(channel, passed)``, which is told that much
was withheld from it.

A listener is one of two kinds. A `FrameListener` takes bytes: its `Framing` turns each
message into a frame once per process, and every listener of that framing gets the same
bytes. A `MessageListener` takes the messages themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..frames import Framing
from ..messages import Message
from .viewers import Viewer


class FrameListener(Protocol):
    """Something that takes ready-made frames.

    Attributes:
        framing: Its kind of frame; ``None`` for a `MessageListener`.
        connection_id: Id of the connection it belongs to, or ``""``.
    """

    @property
    def framing(self) -> Framing: ...

    @property
    def connection_id(self) -> str: ...

    def write(self, data: bytes) -> None:
        """One or more frames of one channel, in order. Must not block or raise."""

    def position_lost(self, channel: str) -> None:
        """Messages of this channel may have been missed."""


class MessageListener(Protocol):
    """Something that takes messages."""

    @property
    def framing(self) -> None: ...

    @property
    def connection_id(self) -> str: ...

    def offer(self, messages: list[Message]) -> None:
        """Messages of one channel, in order. Must not block or raise."""

    def position_lost(self, channel: str) -> None:
        """Messages of this channel may have been missed."""


Onlooker = Callable[[list[Message]], None]
"""Sees the messages of a channel that others listen to. Must not block or raise."""
Listener = FrameListener | MessageListener


def viewer_of(listener: Listener) -> Viewer | None:
    """Whose eyes a listener has; one that does not say has nobody's."""
    viewer: Viewer | None = getattr(listener, "viewer", None)
    return viewer
