"""The site that the faults happen to. What ``CHAOS_OFF`` names is switched off, so that a
test can show what it is there for; nothing else reads it."""

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as OTHER_APPS

OFF = frozenset(filter(None, os.environ.get("CHAOS_OFF", "").split(",")))

INSTALLED_APPS = [*OTHER_APPS, "tests.chaos.site"]
ROOT_URLCONF = "tests.chaos.site.urls"
DATABASES = {"default": json.loads(os.environ["CHAOS_DATABASE"])}

_NO_HISTORY = {"history_size": 0, "positioned": False, "force_recovery": False}

REDIS_PUBSUB = {
    "url": os.environ["REDIS_URL"],
    "prefix": "chaos",
    "outbox": "outbox" not in OFF,
    "live": {"anonymous": True},
    "limits": {"probe_s": 3600.0 if "probe" in OFF else 2.0},
    "channels": {
        "room:*": {
            "subscribe": "anyone",
            **(_NO_HISTORY if "history" in OFF else {"history_size": 500}),
        }
    },
}
