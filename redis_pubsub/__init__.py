"""Live Django models over WebSockets: save, and every subscribed client hears it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

if TYPE_CHECKING:
    from .contrib.websockets import get_application, get_runner_factory
    from .publishing import apublish, publish
    from .publishing.present import apresence, presence
    from .readers import ChannelReader, SubscriptionManager

__version__ = "2.0.0.dev0"

__all__ = [
    "ChannelReader",
    "SubscriptionManager",
    "__version__",
    "apresence",
    "apublish",
    "get_application",
    "get_runner_factory",
    "presence",
    "publish",
]

# Resolved at first use: the package must import before Django is set up.
__getattr__ = lazy(
    __name__,
    {
        "ChannelReader": "readers",
        "SubscriptionManager": "readers",
        "apresence": "publishing.present",
        "apublish": "publishing",
        "get_application": "contrib.websockets",
        "get_runner_factory": "contrib.websockets",
        "presence": "publishing.present",
        "publish": "publishing",
    },
)
