"""What publish.lua does for an outbox, for the broker in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..messages import Draft, Message, Position
from .fencing import ID_TTL_S, Fence, FencedOff, Numbered, Outcome, Sent

_IDS_MAX = 100_000


class Fences:
    """Who published last on which channel, and ids of messages that no history has.

    Not locked by itself: the store calls it under its own lock.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Fence, int]] = {}
        # Oldest first, so that those to forget stand at the beginning.
        self._ids: dict[tuple[str, str], float] = {}

    def publish(
        self,
        numbered: Numbered,
        fence: Fence,
        kept: Callable[[str], Iterable[Message]],
        publish: Callable[[Draft], Position | None],
    ) -> Outcome:
        """Send a message unless another holder has published since, or it is out.

        Args:
            numbered: The message, with its number in the outbox.
            fence: Who sends it.
            kept: Name of a channel to its history.
            publish: Sends it.
        """
        number, draft = numbered
        key = (draft.channel, fence.outbox)
        last, top = self._last.get(key, (fence, 0))
        if last.number > fence.number or (
            last.number == fence.number and last.holder != fence.holder
        ):
            return FencedOff(last.number)
        self._last[key] = (fence, max(top, number))
        if number <= top:
            position = self._find(draft, kept(draft.channel))
            if position is not None:
                return Sent(position, was_there=True)
        position = publish(draft)
        if position is not None and position.offset == 0:
            self._note(draft)
        return Sent(position)

    def _find(self, draft: Draft, kept: Iterable[Message]) -> Position | None:
        if self._ids.get((draft.channel, draft.header.id), 0.0) > time.monotonic():
            return Position("", 0)
        for message in kept:
            if message.id == draft.header.id:
                return message.position
        return None

    def _note(self, draft: Draft) -> None:
        now = time.monotonic()
        self._ids[draft.channel, draft.header.id] = now + ID_TTL_S
        for key, expires_at in list(self._ids.items())[:2]:
            if expires_at < now or len(self._ids) > _IDS_MAX:
                del self._ids[key]
