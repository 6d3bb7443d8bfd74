"""The site that the client libraries talk to."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as OTHER_APPS

INSTALLED_APPS = [*OTHER_APPS, "tests.live.interop.site"]

_OPEN = {"subscribe": "anyone", "publish": "anyone"}

REDIS_PUBSUB = {
    "url": os.environ["REDIS_URL"],
    "prefix": "interop",
    "live": {"anonymous": True, "token_key": "only for these tests, and long enough"},
    "limits": {
        # Seldom, but where pings are the subject: a busy machine answers late.
        "heartbeat_s": float(os.environ.get("HEARTBEAT_S", "25")),
        "live_expiry_grace_s": 2,
    },
    "channels": {
        # No history at all.
        "plain:*": {**_OPEN, "history_size": 0, "positioned": False},
        # A history, and whoever wants to follow it says so.
        "open:*": {
            **_OPEN,
            "history_size": 50,
            "positioned": False,
            "force_recovery": False,
            "presence": True,
            "join_leave": True,
        },
        # Followed by everybody.
        "forced:*": {**_OPEN, "history_size": 50},
        # Forgets soon.
        "short:*": {**_OPEN, "history_size": 3},
        # For everybody who is somebody.
        "members:*": {"subscribe": "authenticated", "publish": "authenticated"},
    },
}
