"""Messages that were written to a `Line` in one piece, and the replies so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .base import Settled
from .commands import Command


@dataclass(slots=True)
class Post:
    """Messages that were written together.

    Attributes:
        before: Commands in front of them.
        commands: One for each message, as before `Replication.ready`.
        size: Bytes.
        written_at: Of the monotonic clock.
        replies: What has come so far.
    """

    before: list[Command]
    commands: Sequence[Command]
    size: int
    written_at: float
    settled: Settled
    replies: list[Any] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        return len(self.replies) == len(self.before) + len(self.commands)

    @property
    def outcomes(self) -> list[Any]:
        """The replies to the messages."""
        return self.replies[len(self.before) :]

    @property
    def waited_s(self) -> float:
        """How long it has been under way."""
        return time.monotonic() - self.written_at
