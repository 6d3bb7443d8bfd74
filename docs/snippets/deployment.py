# deployment.py
import os

from redis_pubsub import get_runner_factory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = get_runner_factory()
