"""Who looks: the users behind listeners, and to which audience each belongs.

An audience is what an upper floor makes of it; here it is something hashable. Which one a
viewer belongs to, it depends on the kind of message, is asked when it first matters and
kept until it is forgotten.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

from ..messages import Judged, Message, Position


class Viewer:
    """One connection's or reader's user, as channels of audiences see it.

    Args:
        viewers: Where it is known.
        user: Who it is; ``None`` for nobody, or where only ``pk`` is known.
        pk: The user's primary key as text.

    Attributes:
        audiences: Kind of message to audience. Replaced, never changed, by `forget`.
        is_stale: Whether ``user`` has to be read anew before it is asked about.
    """

    __slots__ = ("__weakref__", "_viewers", "audiences", "is_stale", "pk", "user")

    def __init__(self, viewers: Viewers, user: Any, pk: str) -> None:
        self._viewers = viewers
        self.user = user
        self.pk = pk
        self.is_stale = user is None and bool(pk)
        self.audiences: dict[str, Hashable] = {}

    def forget(self, user: Any = None) -> None:
        """Nothing that was known of it holds any more; from this moment on it gets no
        message that was rendered for what it was.

        Args:
            user: As it is now; read from the database if not given.
        """
        self.audiences = {}
        self.is_stale = user is None and bool(self.pk)
        if user is not None:
            self.user = user
        self._viewers.changes += 1

    def view(self, message: Message) -> Message | None:
        """What it gets of a message; `LOST` if that was not found out."""
        if not isinstance(message, Judged):
            return message
        if message.is_for_nobody:
            return None
        audience = self.audiences.get(message.header.model)
        return message.views.get(audience, LOST)


class Viewers:
    """The viewers of one process.

    Attributes:
        changes: Grows whenever a viewer's audiences are forgotten.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._all: WeakSet[Viewer] = WeakSet()

    def add(self, user: Any, pk: str = "") -> Viewer:
        """A viewer, known for as long as somebody holds it."""
        viewer = Viewer(self, user, pk or ("" if user is None else str(user.pk)))
        self._all.add(viewer)
        return viewer

    def forget(self, pks: Iterable[str] | None = None) -> None:
        """`Viewer.forget` for some users, or for all."""
        wanted = None if pks is None else set(pks)
        for viewer in list(self._all):
            if wanted is None or viewer.pk in wanted:
                viewer.forget()


LOST: Message = Judged.__new__(Judged)
"""In place of a view that was not found out: the viewer has missed something."""

UNKNOWN: Hashable = object()
"""The audience of a viewer about whom the site's code failed: it is shown nothing, and
asked about anew with the next message."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Messages that were withheld from a listener.

    Attributes:
        after: Offset of the last one before them that it may have seen.
        position: Where they end.
    """

    after: int
    position: Position


class Judge(Protocol):
    """What an upper floor says of audiences."""

    def is_strict(self, channel: str) -> bool:
        """Whether a channel is for judged messages alone."""

    def patience(self, channel: str) -> int:
        """How many messages in a row may pass a listener by before it is moved on; 0 where
        there is no history to fall out of."""

    async def audiences(self, label: str, viewers: Sequence[Viewer]) -> list[Hashable]:
        """To which audience of a kind of message each viewer belongs, or `UNKNOWN`."""

    async def render(
        self, messages: Sequence[Judged], audiences: dict[Hashable, Viewer]
    ) -> list[dict[Hashable, Message | None]]:
        """What each audience gets of each message of one kind; a viewer stands for each."""
