"""The outbox: what a transaction publishes is a row of that transaction until Redis has it.

``rows`` writes and reads them, ``locks`` says who may publish, ``drain`` does, ``deliver``
tries right after a commit, ``relay`` takes what stayed behind. Why it is so:
docs/topics/design.rst, "The outbox".
"""

from __future__ import annotations

from .rows import OutboxState, state

__all__ = ["OutboxState", "state"]
