"""Readers: callbacks, their results, their errors, their end."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from types import SimpleNamespace

import pytest

from redis_pubsub import apublish
from redis_pubsub.broker import subscriber
from redis_pubsub.exceptions import (
    NoCallback,
    ReaderTooSlow,
)
from redis_pubsub.readers import SubscriptionManager
from tests.readers.heard import Heard
from tests.shop.models import Message, Order, Tag

pytestmark = pytest.mark.django_db(transaction=True)


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


async def test_listening_twice_at_once_is_listening_once(subscription, manager):
    """P-5: each of the two returns when messages are heard, with the same future."""
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)

    first, second = await asyncio.gather(reader.listen(), reader.listen())
    assert first is second and reader.is_active
    await subscription.row.apublish()

    assert len(await heard.wait_for(1)) == 1


async def test_none_continues(subscription, manager):
    """P27: only an explicit False ends a reader."""
    heard = Heard(None, 0, "", None)
    await subscription.get_reader(manager).callback(heard).listen()

    for _ in range(4):
        await subscription.row.apublish()

    assert len(await heard.wait_for(4)) == 4


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
    # The row was saved first, so the channel had a history for the plain value to join.
    assert instance.publication.position.offset == 3


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


async def test_a_reader_is_an_async_iterator(subscription, manager, until):
    """`async for message in reader`, in order, until it is left."""
    bodies = []

    async def read():
        async for message in subscription.get_reader(manager):
            bodies.append(message.body)
            if message.body == "c":
                break

    task = asyncio.create_task(read())
    await until(lambda: any(reader.is_active for reader in manager.readers.values()))
    for body in "abc":
        subscription.row.body = body
        await subscription.row.asave()
    await asyncio.wait_for(task, 5)

    assert bodies == ["a", "b", "c"]


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


async def test_a_lost_connection_shows_and_heals(
    subscription, manager, engine, until, monkeypatch
):
    """P29, B5: is_active is False while Redis is gone, and True again after; what was
    said meanwhile comes from the history."""
    import redis.asyncio

    # Away for long enough to be seen.
    monkeypatch.setattr(subscriber, "random", SimpleNamespace(uniform=max))
    lost = []
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)
    reader.on_position_lost = lost.append
    await reader.listen()
    await subscription.row.apublish()
    await heard.wait_for(1)
    admin = redis.asyncio.from_url(engine.config.url)

    await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: not reader.is_active)
    await subscription.row.apublish()
    await until(lambda: reader.is_active)
    await subscription.row.apublish()

    assert len(await heard.wait_for(3)) == 3 and lost == []
    await admin.aclose()


async def test_iterating_a_reader_that_has_callbacks_leaves_them_their_messages(
    subscription, manager
):
    """The error says what is wrong, and changes nothing; nor does an iteration that is over
    keep later callbacks from being called."""
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)
    await reader.listen()

    with pytest.raises(TypeError, match="has callbacks"):
        async for _ in reader:
            pass
    await apublish(reader.channel, 1)
    assert await heard.wait_for(1) == [1]
    await manager.remove(reader)

    reader = subscription.get_reader(manager)
    async with aclosing(reader.__aiter__()) as values:
        following = asyncio.ensure_future(anext(values))
        while not reader.is_active:
            await asyncio.sleep(0)
        await apublish(reader.channel, 2)
        assert await following == 2
    await reader.callback(heard).listen()
    await apublish(reader.channel, 3)
    assert await heard.wait_for(2) == [1, 3]
