"""Receipts: once per subscriber, after every callback has returned."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.models import ReceivedPublication
from redis_pubsub.readers import SubscriptionManager
from tests.readers.heard import Heard
from tests.shop.models import Parcel

pytestmark = pytest.mark.django_db(transaction=True)


async def test_delivery_is_tracked_once_per_subscriber(engine, user, until, in_thread):
    """P-12: two tabs make one receipt; the key is a UUID; models opt in."""
    parcel = await Parcel.objects.acreate(label="x")
    subscription = await parcel.channel.asubscribe(user)
    managers = [SubscriptionManager(engine), SubscriptionManager(engine)]
    heard = [Heard(), Heard()]
    for manager, callback in zip(managers, heard, strict=True):
        await subscription.get_reader(manager).callback(callback).listen()

    await parcel.apublish()
    for callback in heard:
        await callback.wait_for(1)
    while not await ReceivedPublication.objects.aexists():
        await asyncio.sleep(0.01)
    for manager in managers:
        await manager.stop()

    receipt = await ReceivedPublication.objects.select_related("subscriber").aget()
    assert receipt.publication_id == str(parcel.pk) and receipt.subscriber == user
    assert await in_thread(lambda: list(Parcel.objects.get_undelivered())) == []


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
async def test_a_receipt_says_that_every_callback_returned(
    engine, user, in_thread, kind, until
):
    """P18: whatever it returned, False too; not where it raised."""
    parcels = [await Parcel.objects.acreate(label=str(n)) for n in range(2)]
    heard = Heard()
    manager = SubscriptionManager(engine)

    def plain(channel, parcel):
        heard(channel, parcel)
        if parcel.label == "1":
            raise RuntimeError
        return False

    async def coroutine(channel, parcel):
        return plain(channel, parcel)

    for parcel in parcels:
        subscription = await parcel.channel.asubscribe(user)
        reader = subscription.get_reader(manager)
        await reader.callback(plain if kind == "plain" else coroutine).listen()
        await parcel.apublish()
    await heard.wait_for(2)
    while not await ReceivedPublication.objects.aexists():
        await asyncio.sleep(0.01)
    await until(lambda: engine.metrics["callback_errors"] == 1)
    await manager.stop()

    receipt = await ReceivedPublication.objects.aget()
    assert receipt.publication_id == str(parcels[0].pk)
