"""The test site's settings, with limits from the environment: ``TEST_LIMITS``, as JSON."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import REDIS_PUBSUB as _REDIS_PUBSUB

REDIS_PUBSUB = {
    **_REDIS_PUBSUB,
    "live": {"anonymous": True},
    "limits": json.loads(os.environ.get("TEST_LIMITS", "{}")),
}
