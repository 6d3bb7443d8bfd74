"""Helpers for testing sites that use this package.

They work in any test; pytest finds them as fixtures too (``redis_pubsub.testing.plugin``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .capture import captured_messages, send_pending
    from .events import EventClient
    from .jobs import SentJob, captured_jobs, eager_jobs
    from .server import RedisServer, find_redis_server
    from .site import PubSubSite, pubsub_site

__all__ = [
    "EventClient",
    "PubSubSite",
    "RedisServer",
    "SentJob",
    "captured_jobs",
    "captured_messages",
    "eager_jobs",
    "find_redis_server",
    "pubsub_site",
    "send_pending",
]

# Resolved at first use: pytest loads the plugin before Django is set up.
__getattr__ = lazy(
    __name__,
    {
        "EventClient": "events",
        "PubSubSite": "site",
        "RedisServer": "server",
        "SentJob": "jobs",
        "captured_jobs": "jobs",
        "captured_messages": "capture",
        "eager_jobs": "jobs",
        "find_redis_server": "server",
        "pubsub_site": "site",
        "send_pending": "capture",
    },
)
