"""The test site with an event socket; host and port come from outside, if they do."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, REDIS_PUBSUB

INSTALLED_APPS = [*INSTALLED_APPS, "tests.events.site"]
REDIS_PUBSUB = {**REDIS_PUBSUB, **json.loads(os.environ.get("EVENTS_SETTINGS", "{}"))}
