"""Managers, and subscriptions that change while they are heard."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import models

from redis_pubsub.exceptions import (
    InactiveSubscription,
    ReaderExists,
)
from redis_pubsub.models import Channel, Subscription
from redis_pubsub.readers import SubscriptionManager
from redis_pubsub.readers.live import LiveSubscriptions
from tests.readers.heard import Heard
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


async def test_removing_a_reader_cancels_its_listener(subscription, manager):
    """P-6 (1.0's test_close_manager)."""
    heard = Heard()
    reader = subscription.get_reader(manager)
    reader(heard)
    listener = await reader.listen()

    await manager.remove(reader)
    await subscription.row.apublish()

    with pytest.raises(asyncio.CancelledError):
        await listener
    assert heard.values == [] and manager.readers == {}


async def test_a_second_reader_of_a_channel_is_refused_with_the_way_out(
    subscription, manager
):
    """`manager.readers` has one reader a channel; the error names the other way."""
    await subscription.get_reader(manager).callback(Heard()).listen()

    with pytest.raises(ReaderExists, match="callback"):
        await subscription.get_reader(manager).callback(Heard()).listen()


async def test_a_reader_without_a_manager_gets_one(engine, subscription):
    """P17: `subscription.get_reader()` is enough."""
    reader = subscription.get_reader()
    heard = Heard(False)
    listener = await reader.callback(heard).listen()

    await subscription.row.apublish()
    await asyncio.wait_for(listener, 5)

    assert reader.manager is not None
    await reader.manager.stop()


async def test_ending_one_manager_leaves_the_others(engine, subscription, other_user):
    """B1, B2, B3: every listener gets every message, and none ends another."""
    managers = [SubscriptionManager(engine) for _ in range(3)]
    heard = [Heard() for _ in managers]
    for manager, callback in zip(managers, heard, strict=True):
        await subscription.get_reader(manager).callback(callback).listen()

    await managers[0].stop()
    await managers[0].stop()
    await subscription.row.apublish()

    assert len(await heard[1].wait_for(1)) == len(await heard[2].wait_for(1)) == 1
    assert heard[0].values == [] and managers[0].readers == {}
    for manager in managers[1:]:
        await manager.stop()


async def test_manager_add_clear_and_wait_closed(subscription, manager, other_user):
    """P-6: add registers without listening, clear ends all and waits, wait_closed is a
    no-op where nothing is under way."""
    reader = subscription.get_reader()
    manager.add(reader)
    assert manager.readers == {subscription.channel.name: reader} and not reader.is_active

    await reader.callback(Heard()).listen()
    await manager.clear()
    await manager.wait_closed()

    assert manager.readers == {} and not reader.is_active and not manager.closed


async def test_all_subscriptions_are_heard_and_those_to_come(engine, user, manager, until):
    """P-7, B9: active ones only; new ones are picked up live, wherever they were made;
    inactive ones end; one callback for all."""
    rows = [await Message.objects.acreate(body=str(n)) for n in range(4)]
    for row in rows[:3]:
        await row.channel.asubscribe(user)
    await rows[2].channel.aunsubscribe(user)
    heard = Heard()

    readers = await manager.listen_to_all_subscriptions(user, heard)
    assert {reader.channel for reader in readers} == {rows[0].channel, rows[1].channel}
    await rows[2].apublish()
    await rows[0].apublish()
    assert [m.body for m in await heard.wait_for(1)] == ["0"]

    await rows[3].channel.asubscribe(user)
    await until(lambda: rows[3].channel.name in manager.readers)
    await until(lambda: manager.readers[rows[3].channel.name].is_active)
    await rows[3].apublish()
    assert [m.body for m in await heard.wait_for(2)] == ["0", "3"]

    await rows[0].channel.aunsubscribe(user)
    await until(lambda: rows[0].channel.name not in manager.readers)
    await rows[0].apublish()
    await rows[1].apublish()
    assert [m.body for m in await heard.wait_for(3)] == ["0", "3", "1"]


async def test_listening_to_all_starts_without_await(engine, user, manager, until):
    """1.0's README does not await it; it works all the same."""
    row = await Message.objects.acreate()
    await row.channel.asubscribe(user)
    heard = Heard()

    manager.listen_to_all_subscriptions(user, heard)
    await until(lambda: any(reader.is_active for reader in manager.readers.values()))
    await row.apublish()

    assert len(await heard.wait_for(1)) == 1


@pytest.mark.parametrize(
    "deactivate",
    [
        lambda row, user: row.channel.unsubscribe(user),
        lambda row, user: user.subscriptions.update(active=False),
        lambda row, user: user.subscriptions.all().delete(),
        lambda row, user: row.channel.delete(),
    ],
    ids=["unsubscribe", "update", "delete", "channel deleted"],
)
async def test_a_subscription_that_ends_anywhere_ends_its_reader(
    engine, user, manager, until, in_thread, deactivate
):
    """P-3, P13, row 12: whatever ended it, live readers end in under a second."""
    row = await Message.objects.acreate()
    subscription = await row.channel.asubscribe(user)
    reader = subscription.get_reader(manager).callback(Heard())
    await reader.listen()
    await until(lambda: engine.hub.channels.get("\x00control"))

    await in_thread(deactivate, row, user)

    await until(lambda: not reader.is_listening, 1.0)
    assert manager.readers == {}


async def test_what_fails_for_one_user_keeps_nobody_else_waiting(
    engine, user, other_user, until, caplog
):
    """Row 12: a channel that cannot be heard, for its name or since Redis is away, does not
    keep another user's ended subscription alive."""
    row = await Message.objects.acreate()
    await row.channel.asubscribe(other_user)
    first, second = SubscriptionManager(engine), SubscriptionManager(engine)
    await first.listen_to_all_subscriptions(user, Heard())
    (reader,) = await second.listen_to_all_subscriptions(other_user, Heard())
    # Past every signal, so that only this call looks.
    bad = await Channel.objects.acreate(name="bad")
    bulk = models.QuerySet.bulk_create, models.QuerySet.update
    await sync_to_async(bulk[0])(
        Subscription.objects.all(), [Subscription(channel=bad, subscriber=user)]
    )
    await Channel.objects.filter(pk=bad.pk).aupdate(name="\x01")
    theirs = Subscription.objects.filter(subscriber=other_user)
    await sync_to_async(bulk[1])(theirs, active=False)

    failed = await engine.part(LiveSubscriptions).refresh(
        map(str, [user.pk, other_user.pk])
    )

    assert failed == {str(user.pk)} and "InvalidChannelName" in caplog.text
    assert not reader.is_listening
    await first.stop()
    await second.stop()


async def test_an_inactive_subscription_is_not_listened_to(engine, user, manager, until):
    """B9: refused with the way out; a row that was read before it was turned off ends in a
    moment."""
    message = await Message.objects.acreate()
    stale = await message.channel.asubscribe(user)
    await user.subscriptions.aupdate(active=False)
    inactive = await user.subscriptions.aget()

    with pytest.raises(InactiveSubscription, match=r"channel\.subscribe"):
        await inactive.get_reader(manager).callback(Heard()).listen()
    reader = stale.get_reader(SubscriptionManager(engine)).callback(Heard())
    await reader.listen()

    await until(lambda: not reader.is_listening, 1.0)
