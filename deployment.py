"""What gunicorn serves::

    gunicorn deployment:application --bind localhost:8080 \
        --worker-class aiohttp.worker.GunicornWebWorker
"""

import os

from redis_pubsub import get_runner_factory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")

application = get_runner_factory()
