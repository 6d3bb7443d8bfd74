"""The site of ``DJANGO_SETTINGS_MODULE`` for gunicorn, without a ``deployment.py``.

``gunicorn redis_pubsub.contrib.websockets.deploy:application
--worker-class aiohttp.worker.GunicornWebWorker``
"""

from __future__ import annotations

from .entry import get_runner_factory

application = get_runner_factory()
