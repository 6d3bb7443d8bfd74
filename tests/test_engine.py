"""The engine of an event loop: begun, shared, and given back."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine, borrow_engine, current_engine, return_engine
from redis_pubsub.readers import ChannelReader, SubscriptionManager


async def test_an_engine_gives_everything_back_though_a_part_cannot_be_closed(site, caplog):
    """Redis and the threads for the database are not the part's to keep."""

    async def fail():
        raise ZeroDivisionError("a part")

    engine = Engine(get_config())
    await engine.start()
    engine.closing.push_async_callback(fail)

    await engine.close()

    names = [task.get_name() for task in asyncio.all_tasks()]
    assert not any(name.startswith("redis-pubsub") for name in names), names
    assert not engine.hub.broker.is_connected
    assert "a part of the engine could not be closed" in caplog.text


async def test_who_borrows_at_the_same_time_shares_one_engine(settings, prefix):
    """Also where starting it takes a moment; the last one who returns it ends it."""
    settings.REDIS_PUBSUB = {"url": f"memory://{prefix}", "prefix": prefix}

    first, second = await asyncio.gather(borrow_engine(), borrow_engine())

    try:
        assert first is second is current_engine()
    finally:
        await return_engine(first)
        await return_engine(second)
    assert current_engine() is None


@pytest.mark.parametrize("kind", ["redis", "memory"])
async def test_a_manager_returns_what_it_borrowed(kind, site, settings, prefix):
    """Once, however many of its readers found that there was no engine yet."""
    if kind == "memory":
        settings.REDIS_PUBSUB = {"url": f"memory://{prefix}", "prefix": prefix}
    manager = SubscriptionManager()

    readers = [ChannelReader(name, manager).callback(print) for name in "abc"]
    await asyncio.gather(*(reader.listen() for reader in readers))
    assert current_engine() is not None and set(manager.readers) == set("abc")

    await manager.stop()
    assert current_engine() is None
