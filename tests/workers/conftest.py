"""Workers on an engine of the test's own, and consumers that say what they did."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.worker import Worker


@pytest.fixture(params=["redis", "memory"])
def any_site(request, site, settings, prefix):
    """``REDIS_PUBSUB`` on a real Redis, and again in memory."""
    if request.param == "memory":
        settings.REDIS_PUBSUB = {"url": f"memory://{prefix}", "prefix": prefix}
    yield settings.REDIS_PUBSUB
    publisher.close()


@pytest.fixture
async def work():
    """Start workers: ``worker = await work(consumer, …)``."""
    async with AsyncExitStack() as ends:

        async def start(*consumers, **options):
            engine = Engine(get_config())
            await engine.start()
            ends.push_async_callback(engine.close)
            worker = Worker(engine, consumers, **options)
            worker.engine = engine
            worker.start()
            ends.push_async_callback(worker.close)
            return worker

        yield start
