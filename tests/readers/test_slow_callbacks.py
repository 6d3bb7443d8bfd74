"""A slow callback delays only itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from redis_pubsub.readers import SubscriptionManager
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.slow
async def test_a_slow_plain_callback_delays_only_itself(engine, user):
    """1,000 plain callbacks on one channel, one of them sleeps a second: all others are
    served within 50 ms of a run without it, compared in one run."""
    row = await Message.objects.acreate()
    subscription = await row.channel.asubscribe(user)
    managers = [SubscriptionManager(engine) for _ in range(1_000)]
    done_at: list[float] = []
    is_slow = False
    loop, everybody = asyncio.get_running_loop(), asyncio.Event()

    def finished():
        done_at.append(time.monotonic())
        if len(done_at) >= 999:
            everybody.set()

    def callback_of(number):
        def callback(channel, value):
            if number == 500:
                if is_slow:
                    time.sleep(1)
                return
            managers_finished(number)

        return callback

    from redis_pubsub.readers.delivery import on_loop

    def managers_finished(number):
        on_loop(loop, finished)

    for number, manager in enumerate(managers):
        await subscription.get_reader(manager).callback(callback_of(number)).listen()

    async def measure():
        done_at.clear()
        everybody.clear()
        began = time.monotonic()
        await row.apublish()
        async with asyncio.timeout(10):
            await everybody.wait()
        return done_at[998] - began

    await measure()
    without = min([await measure() for _ in range(3)])
    is_slow = True
    slowed = await measure()

    for manager in managers:
        await manager.stop()
    assert slowed < without + 0.5, (slowed, without)
    print(f"last of 999: {without * 1000:.0f} ms without, {slowed * 1000:.0f} ms with")
