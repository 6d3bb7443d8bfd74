"""Live Django models over WebSockets: save, and every subscribed client hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

if TYPE_CHECKING:
    from .consumers import asend, consumer, send
    from .contrib.websockets import get_application, get_runner_factory
    from .publishing import apublish, publish
    from .publishing.control import (
        adisconnect,
        arefresh,
        aunsubscribe,
        disconnect,
        refresh,
        unsubscribe,
    )
    from .publishing.present import apresence, presence
    from .readers import ChannelReader, SubscriptionManager

__version__ = "2.0.0.dev0"

__all__ = [
    "ChannelReader",
    "SubscriptionManager",
    "__version__",
    "adisconnect",
    "apresence",
    "apublish",
    "arefresh",
    "asend",
    "aunsubscribe",
    "consumer",
    "disconnect",
    "get_application",
    "get_runner_factory",
    "presence",
    "publish",
    "refresh",
    "send",
    "unsubscribe",
]

# Resolved at first use: the package must import before Django is set up.
__getattr__ = lazy(
    __name__,
    {
        "ChannelReader": "readers",
        "SubscriptionManager": "readers",
        "adisconnect": "publishing.control",
        "apresence": "publishing.present",
        "apublish": "publishing",
        "arefresh": "publishing.control",
        "asend": "consumers",
        "aunsubscribe": "publishing.control",
        "consumer": "consumers",
        "disconnect": "publishing.control",
        "get_application": "contrib.websockets",
        "get_runner_factory": "contrib.websockets",
        "presence": "publishing.present",
        "publish": "publishing",
        "refresh": "publishing.control",
        "send": "consumers",
        "unsubscribe": "publishing.control",
    },
)
