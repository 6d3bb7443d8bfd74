"""Settings of the measured processes: the tests' own, with a cached user for tokens."""

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import REDIS_PUBSUB as _REDIS_PUBSUB

_MEASURED: dict[str, Any] = {
    "tokenauth_method": "benchmarks.server.cached_user",
    "live": {"anonymous": True},
    "channels": {
        "news": {"subscribe": "anyone"},
        "shared:*": {"subscribe": "authenticated"},
        "own:*": {"subscribe": "authenticated"},
        "room:*": {"subscribe": "anyone", "history_size": 200},
    },
}
REDIS_PUBSUB = {**_REDIS_PUBSUB, **_MEASURED}
