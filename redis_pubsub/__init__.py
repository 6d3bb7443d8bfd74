"""Live Django models over WebSockets: save, and every subscribed client hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

if TYPE_CHECKING:
    from .auth.personal import personal_channels
    from .consumers import asend, consumer, send
    from .contrib.websockets import get_application, get_runner_factory
    from .publishing import apublish, publish
    from .publishing.addressed import apublish_to, publish_to
    from .publishing.control import (
        adisconnect,
        arefresh,
        asend_to,
        aunsubscribe,
        disconnect,
        refresh,
        send_to,
        unsubscribe,
    )
    from .publishing.histories import ahistory, alast, history, last
    from .publishing.present import apresence, presence
    from .readers import ChannelReader, SubscriptionManager
    from .receivers import receiver

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
    "asend",
    "asend_to",
    "aunsubscribe",
    "consumer",
    "disconnect",
    "get_application",
    "get_runner_factory",
    "history",
    "last",
    "personal_channels",
    "presence",
    "publish",
    "publish_to",
    "receiver",
    "refresh",
    "send",
    "send_to",
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
        "asend": "consumers",
        "asend_to": "publishing.control",
        "aunsubscribe": "publishing.control",
        "consumer": "consumers",
        "disconnect": "publishing.control",
        "get_application": "contrib.websockets",
        "get_runner_factory": "contrib.websockets",
        "history": "publishing.histories",
        "last": "publishing.histories",
        "personal_channels": "auth.personal",
        "presence": "publishing.present",
        "publish": "publishing",
        "publish_to": "publishing.addressed",
        "receiver": "receivers",
        "refresh": "publishing.control",
        "send": "consumers",
        "send_to": "publishing.control",
        "unsubscribe": "publishing.control",
    },
)
