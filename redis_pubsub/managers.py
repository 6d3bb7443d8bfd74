"""Version 1.0's ``redis_pubsub.managers``."""

from __future__ import annotations

from .deprecated import moved

__getattr__ = moved(
    __name__,
    {"PublishableModelManager": "redis_pubsub.querysets:PublishableModelManager"},
)
