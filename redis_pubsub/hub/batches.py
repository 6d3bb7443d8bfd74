"""What a flush gives to the listeners of one kind, rendered once."""

from __future__ import annotations

import logging
from typing import Any

from ..frames import Framing
from ..messages import Message
from ..metrics import Metrics
from .listeners import Listener

logger = logging.getLogger("redis_pubsub.hub")


class Batch:
    """One flush.

    Attributes:
        whole: For a listener that gets everything: the joined frames, or the messages.
    """

    def __init__(
        self,
        messages: list[Message],
        framing: Framing | None,
        first: int,
        metrics: Metrics,
    ) -> None:
        self.messages = messages
        self._first = first
        self._frames = framed(messages, framing, metrics) if framing else None
        self.whole: Any = messages if self._frames is None else b"".join(self._frames)

    def give_part(self, listener: Listener, joined_at: int, after: int) -> None:
        """For one that may have joined after the first message, or sent one of them.

        Args:
            listener: Who gets it.
            joined_at: Sequence number of the first message it may get.
            after: Offset of the last message it was told of otherwise.
        """
        wanted = wanted_of(self.messages, self._first, listener, joined_at, after)
        if not wanted:
            return
        if listener.framing is None:
            listener.offer([self.messages[index] for index in wanted])
        elif self._frames is not None:
            listener.write(b"".join(self._frames[index] for index in wanted))


def wanted_of(
    messages: list[Message], first: int, listener: Listener, joined_at: int, after: int
) -> list[int]:
    """Which messages are for a listener; see `Batch.give_part`."""
    return [
        index
        for index, message in enumerate(messages)
        if first + index >= joined_at
        and not 0 < message.position.offset <= after
        and not (
            message.header.exclude and message.header.exclude == listener.connection_id
        )
    ]


def framed(messages: list[Message], framing: Framing, metrics: Metrics) -> list[bytes]:
    """The messages' frames; nothing in place of one that cannot be framed."""
    try:
        if len(messages) == 1:
            return [framing(messages[0])]
        return [framing(message) for message in messages]
    except Exception:
        frames = []
        for message in messages:
            try:
                frames.append(framing(message))
            except Exception:
                frames.append(b"")
                metrics.count("listener_errors")
                logger.exception("a message of %r could not be framed", message.channel)
        return frames


def failed(messages: list[Message], metrics: Metrics) -> None:
    metrics.count("listener_errors")
    logger.exception("a listener of %r failed", messages[0].channel)
