"""`deploy` without Django's pages: a process that serves sockets alone.

``gunicorn redis_pubsub.contrib.websockets.deploy_sockets:application
--worker-class aiohttp.worker.GunicornWebWorker``
"""

from __future__ import annotations

from .entry import get_runner_factory

application = get_runner_factory(pages=False)
