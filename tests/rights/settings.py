"""Settings of servers that share the tests' database."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES["default"]["NAME"] = os.environ["RIGHTS_DATABASE"]
REDIS_PUBSUB = {
    "url": os.environ["REDIS_URL"],
    "prefix": "rights",
    "authorize_method": "tests.rights.handlers.by_permission",
    "channels": {"members:*": {"subscribe": "authenticated"}},
    # What happens is because somebody said so.
    "limits": {"recheck_s": 0},
}
