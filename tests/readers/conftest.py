from __future__ import annotations

from typing import Any

import pytest

from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.readers import SubscriptionManager
from tests.shop.models import Message


@pytest.fixture
async def engine(site: dict[str, Any], transactional_db: None) -> Any:
    """What a process serves with, on the real Redis."""
    engine = Engine(get_config())
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def in_thread():
    """Run blocking Django code, as a view in another thread would."""
    import asyncio

    from django.db import connections

    def call(function, *args, **kwargs):
        def run():
            try:
                return function(*args, **kwargs)
            finally:
                connections.close_all()

        return asyncio.to_thread(run)

    return call


@pytest.fixture
async def subscription(engine, user):
    """A user's subscription to a message's channel."""
    message = await Message.objects.acreate(body="first")
    subscription = await message.channel.asubscribe(user)
    subscription.row = message
    return subscription


@pytest.fixture
async def manager(engine):
    manager = SubscriptionManager(engine)
    yield manager
    await manager.stop()
