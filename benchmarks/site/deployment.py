"""The measured site for gunicorn's aiohttp workers."""

import os

from redis_pubsub import get_runner_factory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.site.settings")

application = get_runner_factory()
