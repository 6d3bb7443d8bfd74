"""Callbacks that raise anything, hang, or call from where they should not."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from redis_pubsub import apublish
from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.exceptions import InvalidChannelName
from redis_pubsub.readers import SubscriptionManager
from redis_pubsub.readers.live import LiveSubscriptions
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def subscription(engine, user):
    message = await Message.objects.acreate()
    return await message.channel.asubscribe(user)


def cancelled_elsewhere():
    raise asyncio.CancelledError


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("misdeed", [sys.exit, cancelled_elsewhere], ids=["exit", "cancel"])
async def test_whatever_a_callback_raises_its_reader_goes_on(
    engine, subscription, until, kind, misdeed
):
    """`sys.exit()` ends no process, something cancelled elsewhere no reader."""
    calls = []
    manager = SubscriptionManager(engine)

    def plain(channel, value):
        calls.append(value)
        misdeed()

    async def coroutine(channel, value):
        plain(channel, value)

    reader = subscription.get_reader(manager)
    await reader.callback(plain if kind == "plain" else coroutine).listen()
    await apublish(reader.channel, 1)
    await until(lambda: engine.metrics["callback_errors"] == 1)
    await apublish(reader.channel, 2)
    await until(lambda: engine.metrics["callback_errors"] == 2)

    assert calls == [1, 2] and reader.is_active
    await manager.stop()


async def test_callbacks_that_hang_do_not_fill_the_queue(settings, site, user, until):
    """All threads taken: what is due waits once, and does not multiply."""
    settings.REDIS_PUBSUB = site | {"db_threads": 2}
    engine = Engine(get_config())
    await engine.start()
    gate, begun = threading.Event(), []
    message = await Message.objects.acreate()
    subscription = await message.channel.asubscribe(user)
    managers = [SubscriptionManager(engine) for _ in range(20)]
    served = []

    def hang(channel, value):
        begun.append(value)
        gate.wait(10)

    for number, manager in enumerate(managers):
        callback = hang if number < 2 else lambda c, v: served.append(v)
        await subscription.get_reader(manager).callback(callback).listen()
    await apublish(message.channel, 1)
    await until(lambda: len(begun) == 2)
    tasks = len(asyncio.all_tasks())
    await asyncio.sleep(0.2)  # forty times the time after which a hop is cut

    assert len(asyncio.all_tasks()) <= tasks + 2
    gate.set()
    await until(lambda: len(served) == 18)
    for manager in managers:
        await manager.stop()
    await engine.close()


async def test_a_plain_callback_may_stop_its_reader(engine, subscription):
    """`reader.stop()` from a database thread reaches the loop."""
    manager = SubscriptionManager(engine)
    reader = subscription.get_reader(manager)
    listener = await reader.callback(lambda c, v: reader.stop()).listen()

    await apublish(reader.channel, 1)

    await asyncio.wait_for(listener, 5)
    assert manager.readers == {}
    await manager.stop()


async def test_readers_that_end_leave_nothing_behind(engine, subscription):
    """Also those whose manager nobody stops."""
    for _ in range(50):
        reader = subscription.get_reader().callback(print)
        (await reader.listen()).cancel()
        await asyncio.sleep(0)

    assert engine.part(LiveSubscriptions).following == {}


async def test_a_client_cannot_name_the_control_channel(engine):
    """A name with control characters is refused before anything is heard."""
    manager = SubscriptionManager(engine)

    with pytest.raises(InvalidChannelName):
        manager.forward(type("Socket", (), {"write_frames": print}), "\x00control")

    await manager.stop()


async def test_an_unreadable_message_is_skipped_with_one_log_line(
    engine, subscription, until, caplog, monkeypatch
):
    """However many readers: one traceback, and the next message arrives."""
    monkeypatch.setattr(Message, "from_publication", classmethod(lambda cls, m: 1 / 0))
    managers = [SubscriptionManager(engine) for _ in range(3)]
    got = []
    for manager in managers:
        await subscription.get_reader(manager).callback(lambda c, v: got.append(v)).listen()

    message = await Message.objects.select_related("channel").afirst()
    await message.apublish()
    await apublish(message.channel, "next")
    await until(lambda: len(got) == 3)

    assert got == ["next"] * 3
    assert engine.metrics["unreadable_messages"] == 1
    assert len([r for r in caplog.records if "nothing could be made" in r.message]) == 1
    for manager in managers:
        await manager.stop()
