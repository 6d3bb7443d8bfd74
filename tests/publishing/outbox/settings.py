"""Settings of the processes that these tests start: what the environment says."""

import json
import os

from tests.services import install_mysqldb
from tests.settings import *  # noqa: F403

install_mysqldb()
DATABASES = {"default": json.loads(os.environ["OUTBOX_DATABASE"])}
REDIS_PUBSUB = json.loads(os.environ["OUTBOX_SETTING"])
