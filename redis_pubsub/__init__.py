"""Live Django models over WebSockets: save, and every subscribed client hears it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contrib.websockets import get_application, get_runner_factory
    from .publishing import apublish, publish
    from .readers import ChannelReader, SubscriptionManager

__version__ = "2.0.0.dev0"

__all__ = [
    "ChannelReader",
    "SubscriptionManager",
    "__version__",
    "apublish",
    "get_application",
    "get_runner_factory",
    "publish",
]

# Resolved at first use: the package must import before Django is set up.
_HOMES = {
    "ChannelReader": "readers",
    "SubscriptionManager": "readers",
    "apublish": "publishing",
    "get_application": "contrib.websockets",
    "get_runner_factory": "contrib.websockets",
    "publish": "publishing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
