"""Live Django models over WebSockets: save, and every subscribed client hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

if TYPE_CHECKING:
    from .auth.personal import personal_channels
    from .contrib.websockets import get_application, get_runner_factory
    from .publishing import apublish, publish
    from .publishing.addressed import apublish_to, publish_to
    from .publishing.control import (
        adisconnect,
        arefresh,
        aunsubscribe,
        disconnect,
        refresh,
        unsubscribe,
    )
    from .publishing.histories import ahistory, alast, history, last
    from .publishing.present import apresence, presence
    from .readers import ChannelReader, SubscriptionManager

__version__ = "2.0.0.dev0"

__all__ = [
    "ChannelReader",
    "SubscriptionManager",
    "__version__",
    "adisconnect",
    "ahistory",
    "alast",
    "apresence",
    "apublish",
    "apublish_to",
    "arefresh",
    "aunsubscribe",
    "disconnect",
    "get_application",
    "get_runner_factory",
    "history",
    "last",
    "personal_channels",
    "presence",
    "publish",
    "publish_to",
    "refresh",
    "unsubscribe",
]

# Resolved at first use: the package must import before Django is set up.
__getattr__ = lazy(
    __name__,
    {
        "ChannelReader": "readers",
        "SubscriptionManager": "readers",
        "adisconnect": "publishing.control",
        "ahistory": "publishing.histories",
        "alast": "publishing.histories",
        "apresence": "publishing.present",
        "apublish": "publishing",
        "apublish_to": "publishing.addressed",
        "arefresh": "publishing.control",
        "aunsubscribe": "publishing.control",
        "disconnect": "publishing.control",
        "get_application": "contrib.websockets",
        "get_runner_factory": "contrib.websockets",
        "history": "publishing.histories",
        "last": "publishing.histories",
        "personal_channels": "auth.personal",
        "presence": "publishing.present",
        "publish": "publishing",
        "publish_to": "publishing.addressed",
        "refresh": "publishing.control",
        "unsubscribe": "publishing.control",
    },
)
