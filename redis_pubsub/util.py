"""Version 1.0's ``redis_pubsub.util``."""

from __future__ import annotations

from .deprecated import moved

_CONNECTIONS = (
    "!connections belong to the process that serves or publishes; use "
    "redis_pubsub.publish, or open your own with redis-py"
)

__getattr__ = moved(
    __name__,
    {
        "ChannelReader": "redis_pubsub:ChannelReader",
        "SubscriptionManager": "redis_pubsub:SubscriptionManager",
        "redis_channel_publish": "redis_pubsub:publish",
        "redis_channel_reader": "!use a ChannelReader",
        "get_redis": _CONNECTIONS,
        "get_async_redis": _CONNECTIONS,
        "SYNCREDIS": _CONNECTIONS,
        "ASYNCREDIS": _CONNECTIONS,
    },
)
