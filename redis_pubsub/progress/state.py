"""What is said of a piece of work: its state as it is, which is also what viewers get."""

from __future__ import annotations

from dataclasses import dataclass

PROGRESS, DONE, FAILED = "progress", "done", "failed"
"""The event of a state; also its ``state``."""


@dataclass(frozen=True, slots=True)
class State:
    """How far it is.

    Attributes:
        state: `PROGRESS`, `DONE` or `FAILED`.
        current: Steps that are done.
        total: Steps there are; ``None`` if nobody knows.
        label: What is being done, for people.
        reason: Why it failed, for people.
    """

    state: str
    current: int
    total: int | None
    label: str
    reason: str = ""
