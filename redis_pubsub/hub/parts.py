"""One flush of messages of which each audience gets its own view.

The usual one is, for each audience, a loop over bound methods and nothing else: which
listener belongs to which audience is kept until somebody comes, goes or changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from ..frames import Framing
from ..messages import Judged, Message
from ..metrics import Metrics
from .listeners import Listener, viewer_of
from .viewers import LOST, Viewer

logger = logging.getLogger("redis_pubsub.hub")

Taker = Callable[[Any], None]


class Part:
    """The listeners of one audience."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.takers: list[Taker] = []


Parts = dict[Hashable, Part]


def taker_of(listener: Listener) -> Taker:
    """What takes a listener's frames, or its messages."""
    return listener.offer if listener.framing is None else listener.write


def parts_of(listeners: Iterable[Listener], label: str) -> Parts:
    """Listeners by the audience they belong to for one kind of message; ``None`` for those
    of whom that is not known."""
    parts: Parts = {}
    for listener in listeners:
        viewer = viewer_of(listener)
        audience = _NOBODY if viewer is None else viewer.audiences.get(label)
        part = parts.get(audience)
        if part is None:
            part = parts[audience] = Part()
        part.listeners.append(listener)
        part.takers.append(taker_of(listener))
    return parts


_NOBODY = object()
"""The audience of listeners without a viewer: they get nothing that is judged."""


class ViewBatch:
    """What one flush gives to the listeners of one kind; each view is framed once.

    Args:
        messages: What the channel brought, in order, judged or not.
        framing: Makes a frame of a view; ``None`` for those who take messages.
        metrics: Counts what is withheld.
    """

    def __init__(
        self, messages: list[Message], framing: Framing | None, metrics: Metrics
    ) -> None:
        self.messages = messages
        self._framing = framing
        self._metrics = metrics
        # Views live as long as their messages, so that an id is one's own.
        self._frames: dict[int, bytes] = {}
        self._wholes: dict[tuple[int, ...], bytes] = {}

    @property
    def label(self) -> str | None:
        """The kind of the messages, if they are of one."""
        labels = {m.header.model for m in self.messages if m.is_judged}
        return labels.pop() if len(labels) == 1 else None

    def for_audience(self, audience: Hashable) -> tuple[Any, bool]:
        """What the members of an audience get, empty for nothing; and whether something is
        missing in it."""
        return self._whole(
            [
                (
                    None
                    if audience is _NOBODY or message.is_for_nobody
                    else message.views.get(audience, LOST)
                )
                if isinstance(message, Judged)
                else message
                for message in self.messages
            ]
        )

    def for_viewer(self, viewer: Viewer | None, wanted: list[int]) -> tuple[Any, bool]:
        """`for_audience` for one viewer, of some of the messages."""
        messages = [self.messages[index] for index in wanted]
        if viewer is None:
            return self._whole([None if m.is_judged else m for m in messages])
        return self._whole([viewer.view(message) for message in messages])

    def _whole(self, views: list[Message | None]) -> tuple[Any, bool]:
        is_lost = any(view is LOST for view in views)
        shown = [view for view in views if view is not None and view is not LOST]
        if self._framing is None or not shown:
            return shown, is_lost
        key = tuple(map(id, shown))
        whole = self._wholes.get(key)
        if whole is None:
            whole = self._wholes[key] = b"".join(map(self._frame, shown))
        return whole, is_lost

    def _frame(self, view: Message) -> bytes:
        """A view's frame; nothing in place of one that cannot be framed."""
        made = self._frames.get(id(view))
        if made is None:
            assert self._framing is not None, "asked for bytes"
            try:
                made = self._framing(view)
            except Exception:
                made = b""
                self._metrics.count("listener_errors")
                logger.exception("a message of %r could not be framed", view.channel)
            self._frames[id(view)] = made
        return made
