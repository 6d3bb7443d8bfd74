"""WebSocket handlers in aiohttp: decorators, discovery, the application."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
_HOMES = {
    "load_handlers": "discovery",
    "websocket": "handlers",
    "websocket_pubsub": "handlers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
