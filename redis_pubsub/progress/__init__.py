"""How far something is, for everybody who waits for it: from a view, a command or a worker.

What is said is always the state as it is, never a step: a viewer who missed ten of them, or
who comes late, sees the same as one who was there from the start. States are sent by a
thread beside the work, a few each second, so that neither Redis nor the number of steps
slows the work down, and nothing that goes wrong there breaks it.

States are sent at once, also inside a transaction: a bar that moves when the work has been
committed shows nothing. They pass by the outbox for the same reason.
"""

from __future__ import annotations

from .sender import EXPIRE_S, GIVE_UP_S, INTERVAL_S, RETRY_S
from .state import DONE, FAILED, PROGRESS, State
from .tracked import Tracked, progress
from .work import Progress

__all__ = [
    "DONE",
    "EXPIRE_S",
    "FAILED",
    "GIVE_UP_S",
    "INTERVAL_S",
    "PROGRESS",
    "RETRY_S",
    "Progress",
    "State",
    "Tracked",
    "progress",
]
