"""Settings of the measured processes: the tests' own, with a cached user for tokens."""

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import REDIS_PUBSUB as _REDIS_PUBSUB

_MEASURED: dict[str, Any] = {
    "tokenauth_method": "benchmarks.server.cached_user",
    "live": {"anonymous": True},
    # One user has all sockets, and they come as fast as they can.
    "limits": {
        "connections": 1_000_000,
        "connects_per_s": 1_000_000,
        "connects_burst": 1_000_000,
        "user_connections": 1_000_000,
    },
    "channels": {
        "news": {"subscribe": "anyone"},
        "shared:*": {"subscribe": "authenticated"},
        "own:*": {"subscribe": "authenticated"},
        "room:*": {"subscribe": "anyone", "history_size": 200},
    },
}
REDIS_PUBSUB = {**_REDIS_PUBSUB, **_MEASURED}
