"""Version 1.0's ``redis_pubsub.receivers``."""

from __future__ import annotations

from .deprecated import moved

__getattr__ = moved(
    __name__,
    {"subscribable_changed": "redis_pubsub.publishing.signals:subscribable_changed"},
)
