"""Event sockets: a path whose clients and handlers speak ``{"event", "data"}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .classes import EventSocketHandler, event
    from .connection import EventConnection
    from .registry import EventModule
    from .socket import EventSocket
    from .words import Deny, EventError

__all__ = [
    "Deny",
    "EventConnection",
    "EventError",
    "EventModule",
    "EventSocket",
    "EventSocketHandler",
    "event",
]

__getattr__ = lazy(
    __name__,
    {
        "Deny": "words",
        "EventConnection": "connection",
        "EventError": "words",
        "EventModule": "registry",
        "EventSocket": "socket",
        "EventSocketHandler": "classes",
        "event": "classes",
    },
)
