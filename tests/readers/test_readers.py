"""Readers: callbacks, their results, their errors, their end."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from redis_pubsub import apublish
from redis_pubsub.exceptions import (
    InactiveSubscription,
    NoCallback,
    ReaderExists,
    ReaderTooSlow,
)
from redis_pubsub.models import ReceivedPublication
from redis_pubsub.readers import SubscriptionManager
from tests.shop.models import Message, Order, Parcel, Tag

pytestmark = pytest.mark.django_db(transaction=True)


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


class Heard:
    """A callback that remembers, and can be waited for."""

    def __init__(self, *results):
        self.values = []
        self.channels = []
        self.threads = set()
        self.results = list(results)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def __call__(self, channel, value):
        self.channels.append(channel)
        self.values.append(value)
        self.threads.add(threading.current_thread())
        self._loop.call_soon_threadsafe(self._changed.set)
        return self.results.pop(0) if self.results else None

    async def wait_for(self, count):
        async with asyncio.timeout(5):
            while len(self.values) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.values


async def test_a_fresh_reader_is_inactive_and_a_cancelled_one_again(subscription, manager):
    """P-4, P-5 (1.0's test_reader): active between listen() and cancel(); awaiting a
    cancelled listener raises; the callback is not called; stop() closes the manager."""
    reader = subscription.get_reader(manager)
    heard = Heard()
    reader.callback(heard)
    assert not reader.is_active

    listener = await reader.listen()
    assert reader.is_active and reader.future is listener
    assert reader.subscriber == subscription.subscriber
    assert reader.channel == subscription.channel and reader.manager is manager

    listener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listener
    await apublish(reader.channel, 1)
    await manager.stop()

    assert not reader.is_active and heard.values == []
    assert manager.closed


async def test_a_published_instance_arrives_equal(subscription, manager):
    """P-4 (1.0's test_publish_reader): equal to the original; False ends the listener."""
    reader = subscription.get_reader(manager)
    heard = Heard(False)
    reader.callback(heard)
    listener = await reader.listen()

    await subscription.row.apublish()
    await asyncio.wait_for(listener, 5)

    assert heard.values == [subscription.row]
    assert heard.channels == [subscription.channel.name] and isinstance(
        heard.channels[0], str
    )
    assert heard.values[0].body == "first"


async def test_true_continues_and_false_ends(subscription, manager, engine):
    """P-4 (1.0's test_close_reader): two publishes, [True, False]; it ends at once: the
    third is not seen, the channel is left, the entry is gone."""
    reader = subscription.get_reader(manager)
    heard = Heard(True, False)
    reader.callback(heard)
    listener = await reader.listen()

    for _ in range(3):
        await subscription.row.apublish()
    await asyncio.wait_for(listener, 5)

    assert len(heard.values) == 2
    assert manager.readers == {}
    assert subscription.channel.name not in engine.hub.channels


async def test_none_continues(subscription, manager):
    """P27: only an explicit False ends a reader."""
    heard = Heard(None, 0, "", None)
    await subscription.get_reader(manager).callback(heard).listen()

    for _ in range(4):
        await subscription.row.apublish()

    assert len(await heard.wait_for(4)) == 4


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


async def test_no_first_message_is_lost(subscription, manager):
    """P-5: what is published right after listen() returned arrives, a hundred times."""
    for _ in range(100):
        reader = subscription.get_reader(manager)
        heard = Heard(False)
        listener = await reader.callback(heard).listen()
        await subscription.row.apublish()
        await asyncio.wait_for(listener, 5)
        assert len(heard.values) == 1


async def test_both_decorators_register_and_return_the_reader(subscription, manager):
    """P25: `@reader.callback` and `@reader`, plain and `async def`."""
    reader = subscription.get_reader(manager)
    heard = Heard()

    @reader.callback
    def plain(channel, value):
        heard(channel, value)

    @reader
    async def coroutine(channel, value):
        heard(channel, value)

    assert plain is reader and coroutine is reader
    await reader.listen()
    await subscription.row.apublish()

    assert len(await heard.wait_for(2)) == 2


async def test_plain_callbacks_may_query_and_coroutines_run_on_the_loop(
    subscription, manager, user
):
    """Plain ones run in a database thread: a relation is simply loaded. A coroutine runs
    here, where an unloaded relation raises."""
    subscription.row.author = user
    await subscription.row.asave()
    reader = subscription.get_reader(manager)
    names, heard = [], Heard()

    @reader.callback
    def plain(channel, message):
        names.append(message.author.username)

    @reader.callback
    async def coroutine(channel, message):
        heard(channel, message)

    await reader.listen()
    await subscription.row.apublish()

    await heard.wait_for(1)
    assert names == ["ada"]
    assert heard.threads == {threading.main_thread()}


async def test_each_callback_gets_a_copy_of_its_own(engine, subscription, other_user):
    """One fetch per process; what one callback changes, no other sees."""
    other = await subscription.channel.asubscribe(other_user)
    first, second = SubscriptionManager(engine), SubscriptionManager(engine)
    heard = [Heard(), Heard()]

    def spoil(channel, message):
        body = message.body
        message.body = "spoilt"
        return heard[0](channel, body)

    await subscription.get_reader(first).callback(spoil).listen()
    await other.get_reader(second).callback(lambda c, m: heard[1](c, m.body)).listen()
    await subscription.row.apublish()

    assert await heard[0].wait_for(1) == ["first"]
    assert await heard[1].wait_for(1) == ["first"]
    await first.stop()
    await second.stop()


async def test_a_value_that_is_no_model_arrives_decoded(subscription, manager):
    """P22: dicts need no model; the envelope comes with an instance."""
    heard = Heard()
    await subscription.get_reader(manager).callback(heard).listen()

    await apublish(subscription.channel, {"a": [1, 2]})
    await apublish(subscription.channel, subscription.row, event="seen")

    plain, instance = await heard.wait_for(2)
    assert plain == {"a": [1, 2]}
    assert instance.publication.event == "seen"
    assert (
        instance.publication.position.offset == 2
        or instance.publication.position.offset == 1
    )


async def test_a_deleted_row_still_arrives_as_it_was(subscription, manager):
    """2.4: a row that is gone when the callback runs kills nothing; its data is there."""
    heard = Heard()
    await subscription.get_reader(manager).callback(heard).listen()

    await subscription.row.adelete()

    (message,) = await heard.wait_for(1)
    assert message.body == "first" and message.publication.event == "delete"


async def test_a_row_gone_before_its_look_up_arrives_as_data(
    engine, user, manager, in_thread
):
    """A payload of another form needs the row; without it the payload is delivered."""
    order = await Order.objects.acreate(status="new")
    subscription = await order.channel.asubscribe(user)
    heard = Heard()
    gone = Order.objects.filter(pk=order.pk)
    await subscription.get_reader(manager).callback(heard).listen()

    def delete_then_publish():
        kept = Order.objects.get(pk=order.pk)
        gone.delete(publish=False)
        kept.publish()

    await in_thread(delete_then_publish)

    (value,) = await heard.wait_for(1)
    assert value == {"id": order.pk, "status": "new", "version": 1}
    assert engine.metrics["rows_gone"] == 1


async def test_only_listed_models_become_instances(
    engine, user, manager, settings, site, subscription
):
    """A label in a message reads no arbitrary row: others stay data."""
    tag = await Tag.objects.acreate(name="secret")
    heard = Heard()
    await subscription.get_reader(manager).callback(heard).listen()

    await subscription.channel.apublish(tag)

    (value,) = await heard.wait_for(1)
    assert value == [{"model": "shop.tag", "pk": tag.pk, "fields": {}}]


async def test_a_callback_that_raises_is_logged_and_the_reader_goes_on(
    subscription, manager, engine, caplog, until
):
    """P-19, B16: traceback with the channel, a counter, and the next message arrives."""
    reader = subscription.get_reader(manager)
    heard = Heard()

    @reader.callback
    def broken(channel, value):
        heard(channel, value)
        raise RuntimeError("in my callback")

    await reader.listen()
    await subscription.row.apublish()
    await subscription.row.apublish()
    await until(lambda: engine.metrics["callback_errors"] == 2)

    assert reader.is_active
    assert len(heard.values) == 2
    assert "in my callback" in caplog.text and subscription.channel.name in caplog.text


async def test_a_reader_without_callback_says_so(subscription, manager):
    """2.4: refused at listen() rather than dead at the first message."""
    with pytest.raises(NoCallback, match=r"@reader\.callback"):
        await subscription.get_reader(manager).listen()


async def test_a_second_reader_of_a_channel_is_refused_with_the_way_out(
    subscription, manager
):
    """`manager.readers` has one reader a channel; the error names the other way."""
    await subscription.get_reader(manager).callback(Heard()).listen()

    with pytest.raises(ReaderExists, match="callback"):
        await subscription.get_reader(manager).callback(Heard()).listen()


async def test_a_reader_is_an_async_iterator(subscription, manager):
    """`async for message in reader`, in order, until it is left."""
    bodies = []

    async def read():
        async for message in subscription.get_reader(manager):
            bodies.append(message.body)
            if message.body == "c":
                break

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    while subscription.channel.name not in manager.readers:
        await asyncio.sleep(0)
    while not manager.readers[subscription.channel.name].is_active:
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    for body in "abc":
        subscription.row.body = body
        await subscription.row.asave()
    await asyncio.wait_for(task, 5)

    assert bodies == ["a", "b", "c"]


async def test_a_reader_without_a_manager_gets_one(engine, subscription):
    """P17: `subscription.get_reader()` is enough."""
    reader = subscription.get_reader()
    heard = Heard(False)
    listener = await reader.callback(heard).listen()

    await subscription.row.apublish()
    await asyncio.wait_for(listener, 5)

    assert reader.manager is not None
    await reader.manager.stop()


async def test_a_script_needs_no_application(site, user):
    """P17, P21: the first reader of a loop starts what it needs; the last manager's stop
    gives every connection back."""
    import redis.asyncio

    from redis_pubsub.engine import current_engine

    message = await Message.objects.acreate(body="x")
    subscription = await message.channel.asubscribe(user)
    admin = redis.asyncio.from_url(site["url"])
    before = len(await admin.client_list(_type="pubsub"))
    readers = [subscription.get_reader(), subscription.get_reader()]
    heard = [Heard(False), Heard(False)]
    listeners = [
        await reader.callback(callback).listen()
        for reader, callback in zip(readers, heard, strict=True)
    ]
    assert len(await admin.client_list(_type="pubsub")) == before + 1

    await message.apublish()
    await asyncio.wait_for(asyncio.gather(*listeners), 5)
    for reader in readers:
        await reader.manager.stop()

    assert current_engine() is None
    assert len(await admin.client_list(_type="pubsub")) == before
    await admin.aclose()


async def test_messages_stay_in_order_in_threads(subscription, manager):
    """At most one call in flight per reader: 500 messages, one order."""
    heard = Heard()
    await subscription.get_reader(manager).callback(heard).listen()

    for number in range(500):
        await apublish(subscription.channel, number)

    assert await heard.wait_for(500) == list(range(500))


async def test_a_reader_that_cannot_keep_up_is_ended(settings, site, user):
    """A full queue has an answer: the reader ends with an error that says the limit."""
    from redis_pubsub.conf import get_config
    from redis_pubsub.engine import Engine

    settings.REDIS_PUBSUB = site | {"limits": {"reader_messages": 5}}
    engine = Engine(get_config())
    await engine.start()
    message = await Message.objects.acreate()
    subscription = await message.channel.asubscribe(user)
    manager, gate = SubscriptionManager(engine), threading.Event()
    listener = await (
        subscription.get_reader(manager).callback(lambda c, v: gate.wait(5)).listen()
    )

    for number in range(10):
        await apublish(message.channel, number)

    with pytest.raises(ReaderTooSlow, match="5 messages"):
        await asyncio.wait_for(listener, 5)
    gate.set()
    assert engine.metrics["slow_readers"] == 1
    await engine.close()


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
    await asyncio.sleep(0.05)
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
    await until(lambda: engine.hub.channels.get(row.channel.name))
    await asyncio.sleep(0.05)
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
    """ROWS 2.5: whatever it returned, False too; not where it raised."""
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


async def test_a_lost_connection_shows_and_heals(subscription, manager, engine, until):
    """P29, B5: is_active is False while Redis is gone, and True again after; the reader
    hears that messages may have been missed."""
    import redis.asyncio

    lost = []
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)
    reader.on_position_lost = lost.append
    await reader.listen()
    admin = redis.asyncio.from_url(engine.config.url)

    await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: not reader.is_active)
    await until(lambda: lost == [subscription.channel.name])
    await subscription.row.apublish()

    assert len(await heard.wait_for(1)) == 1 and reader.is_active
    await admin.aclose()


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
