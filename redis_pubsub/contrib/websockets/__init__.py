"""WebSocket handlers in aiohttp: decorators, discovery, the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy
from .entry import get_application, get_runner_factory, setup

if TYPE_CHECKING:
    from .discovery import load_handlers
    from .handlers import websocket, websocket_pubsub

__all__ = [
    "get_application",
    "get_runner_factory",
    "load_handlers",
    "setup",
    "websocket",
    "websocket_pubsub",
]

# Resolved at first use: a deployment.py imports this before Django is set up.
__getattr__ = lazy(
    __name__,
    {
        "load_handlers": "discovery",
        "websocket": "handlers",
        "websocket_pubsub": "handlers",
    },
)
