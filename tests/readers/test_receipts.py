"""Receipts: once per subscriber, after every callback has returned."""

from __future__ import annotations

import asyncio

import pytest
from django.db import IntegrityError, OperationalError

from redis_pubsub import receipts
from redis_pubsub.exceptions import PoolBusy
from redis_pubsub.models import Channel, ReceivedPublication
from redis_pubsub.readers import SubscriptionManager, recorder
from redis_pubsub.receipts import Receipt
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


# -- on their way to the database ----------------------------------------------------------


@pytest.fixture
async def writing(engine):
    """What writes receipts."""
    return engine.part(recorder.Recorder)


@pytest.fixture
async def receipt(user):
    """``receipt(n)``: that of some row of ada's channel."""
    channel = await Channel.objects.acreate(name="post")
    return lambda number: Receipt(channel.name, user.pk, "shop.parcel", str(number))


async def test_many_receipts_are_one_insert(writing, receipt, engine, monkeypatch, until):
    """P-12: however many sockets a message reached."""
    batches = []

    def record(batch):
        batches.append(len(batch))
        receipts.record(batch)

    monkeypatch.setattr(recorder, "record", record)

    for number in range(500):
        writing.add(receipt(number))
        writing.add(receipt(number))
    await engine.close()

    assert batches == [500]
    assert await ReceivedPublication.objects.acount() == 500


async def test_a_full_queue_drops_new_receipts_and_counts_them(
    writing, receipt, engine, monkeypatch
):
    """Nothing grows without bound while the database is slow."""
    monkeypatch.setattr(recorder, "RECEIPTS_MOST", 3)

    for number in range(5):
        writing.add(receipt(number))
    await engine.close()

    assert engine.metrics["receipts_dropped"] == 2
    written = ReceivedPublication.objects.order_by("publication_id")
    assert [row.publication_id async for row in written] == ["0", "1", "2"]


async def test_a_database_that_is_down_delays_receipts(
    writing, receipt, engine, monkeypatch, until
):
    """They are tried again, with those that came meanwhile behind them."""
    failures = [OperationalError("down"), PoolBusy("busy")]

    def record(batch):
        if failures:
            raise failures.pop(0)
        receipts.record(batch)

    monkeypatch.setattr(recorder, "record", record)
    monkeypatch.setattr(recorder, "RETRY_FIRST_S", 0.01)

    writing.add(receipt(1))
    await until(lambda: engine.metrics["receipts_retried"])
    writing.add(receipt(2))
    while await ReceivedPublication.objects.acount() < 2:
        await asyncio.sleep(0.01)

    assert engine.metrics["receipts_retried"] == 2
    assert engine.metrics["receipts_dropped"] == 0


async def test_receipts_are_given_up_after_a_bound(
    writing, receipt, engine, monkeypatch, until, caplog
):
    """Counted, logged once with the reason."""

    def record(batch):
        raise OperationalError("down for good")

    monkeypatch.setattr(recorder, "record", record)
    monkeypatch.setattr(recorder, "RETRY_FOR_S", 0.05)
    monkeypatch.setattr(recorder, "RETRY_FIRST_S", 0.01)

    writing.add(receipt(1))
    writing.add(receipt(2))
    await until(lambda: engine.metrics["receipts_dropped"] == 2)

    assert engine.metrics["receipts_retried"]
    assert caplog.text.count("were not written: down for good") == 1


async def test_one_bad_receipt_costs_no_other(writing, receipt, engine, monkeypatch):
    """As when its channel is deleted in that very moment."""

    def record(batch):
        if any(each.pk == "13" for each in batch):
            raise IntegrityError("its channel is gone")
        receipts.record(batch)

    monkeypatch.setattr(recorder, "record", record)

    for number in range(40):
        writing.add(receipt(number))
    await engine.close()

    assert engine.metrics["receipts_dropped"] == 1
    assert await ReceivedPublication.objects.acount() == 39


async def test_what_waits_is_written_when_the_process_ends(engine, user):
    """Delivered, then closed at once: the receipt is there."""
    parcel = await Parcel.objects.acreate(label="x")
    subscription = await parcel.channel.asubscribe(user)
    manager = SubscriptionManager(engine)
    heard = Heard()
    await subscription.get_reader(manager).callback(heard).listen()

    await parcel.apublish()
    await heard.wait_for(1)
    await manager.stop()
    await engine.close()

    assert await ReceivedPublication.objects.acount() == 1


async def test_forwarded_frames_leave_no_receipts(engine, user):
    """They reach a socket without Python per message."""
    parcel = await Parcel.objects.acreate(label="x")
    subscription = await parcel.channel.asubscribe(user)
    written = asyncio.Event()

    class Socket:
        def write_frames(self, data):
            written.set()

    manager = SubscriptionManager(engine)
    await manager.forward(Socket(), subscription)
    await parcel.apublish()
    await asyncio.wait_for(written.wait(), 5)
    await manager.stop()
    await engine.close()

    assert not await ReceivedPublication.objects.aexists()
