"""Telling every serving process that something it holds may be out of date.

The receiving side is ``engine.control``. What is told makes a process look again; it never
grants anything, since whoever can write to Redis could have sent it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .. import codec
from ..engine import CONTROL_CHANNEL, ControlEvent
from ..messages import Draft, new_header
from . import transactions


def announce_subscribers(users: Collection[Any], *, using: str) -> None:
    """The subscriptions of these users (primary keys) changed; told after the commit."""
    event = ControlEvent(kind="subscriptions", users=[str(pk) for pk in users])
    draft = Draft(CONTROL_CHANNEL, new_header("control"), codec.encode(event))
    transactions.after_commit(draft, using)
