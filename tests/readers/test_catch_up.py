"""Catching up: what was missed comes first, everything comes once."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError

from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.exceptions import NoCallback
from redis_pubsub.models import Channel, ReceivedPublication
from redis_pubsub.readers import SubscriptionManager, catchup, recorder
from redis_pubsub.testing import pubsub_site
from tests.readers.heard import Heard
from tests.shop.models import Letter, Message, Parcel, Postcard

pytestmark = pytest.mark.django_db(transaction=True)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(hours):
    return BEGIN + timedelta(hours=hours)


@pytest.fixture
async def post(user):
    """A channel that ada is subscribed to."""
    channel = await Channel.objects.acreate(name="post")
    await channel.asubscribe(user)
    return channel


@pytest.fixture
def paused(monkeypatch):
    """``paused("find_missed", before=…)``: a step that waits for ``go``."""

    class Paused:
        def __init__(self):
            self.reached, self.go = threading.Event(), threading.Event()

        def __call__(self, name):
            step = getattr(catchup, name)

            def waiting(*args):
                found = step(*args)
                self.reached.set()
                assert self.go.wait(5)
                return found

            monkeypatch.setattr(catchup, name, waiting)

    return Paused()


def bodies(heard):
    return [value.body for value in heard.values]


async def receipts(count):
    async with asyncio.timeout(5):
        while await ReceivedPublication.objects.acount() < count:
            await asyncio.sleep(0.01)


async def test_who_was_away_gets_what_he_missed_once(engine, user, post):
    """P-13, P20: oldest first on each channel, with receipts; nothing at the next time."""
    other = await Channel.objects.acreate(name="other")
    await other.asubscribe(user)
    for hours, channel in ((3, post), (1, post), (2, other), (4, other)):
        await Letter.objects.acreate(
            channel=channel, body=f"{channel} {hours}", written_at=at(hours)
        )
    first, second = Heard(), Heard()

    manager = SubscriptionManager(engine)
    await manager.listen_to_all_subscriptions(user, first, catch_up=True)
    await receipts(4)
    await manager.stop()
    manager = SubscriptionManager(engine)
    await manager.listen_to_all_subscriptions(user, second, catch_up=True)
    await manager.stop()

    assert [each for each in bodies(first) if "post" in each] == ["post 1", "post 3"]
    assert [each for each in bodies(first) if "other" in each] == ["other 2", "other 4"]
    assert second.values == []
    assert engine.metrics["caught_up"] == 4


async def test_without_asking_nobody_catches_up(manager, user, post):
    """As in 1.0, and the rows stay undelivered."""
    await Letter.objects.acreate(channel=post, body="missed")
    heard = Heard()

    await manager.listen_to_all_subscriptions(user, heard)
    await Letter.objects.acreate(channel=post, body="live")

    await heard.wait_for(1)
    assert bodies(heard) == ["live"]


async def test_values_are_those_of_live_messages(manager, user, engine):
    """The same fields sent and deferred, the same publication but for its position."""
    parcels = [Parcel(label=label) for label in ("missed", "live")]
    for parcel in parcels:
        await parcel.asave()
        await parcel.channel.asubscribe(user)
    missed, live = parcels
    heard = Heard()

    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await heard.wait_for(2)
    heard.values.clear()
    await live.asave()
    [updated] = await heard.wait_for(1)
    await ReceivedPublication.objects.all().adelete()
    reader = manager.readers[missed.channel.name]
    await asyncio.sleep(0.1)
    await ReceivedPublication.objects.all().adelete()
    heard.values.clear()
    assert await reader.catch_up() == 1
    [caught_up] = heard.values

    assert type(caught_up) is type(updated) is Parcel
    assert caught_up.get_deferred_fields() == updated.get_deferred_fields() != set()
    assert caught_up.publication.payload[0]["fields"] == {"label": "missed"}
    assert caught_up.publication.event == "create"
    assert (caught_up.pk, caught_up.publication.pk) == (missed.pk, str(missed.pk))
    assert caught_up.publication.position.offset == 0


@pytest.mark.parametrize("step", ["find_missed", "read_missed"])
async def test_what_is_published_meanwhile_comes_once(manager, user, post, paused, step):
    """Listened first, read then: what is in both is handed over once."""
    await Letter.objects.acreate(channel=post, body="missed", written_at=at(1))
    both = await Letter.objects.acreate(channel=post, body="in both", written_at=at(2))
    paused(step)
    heard = Heard()

    listening = manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await asyncio.to_thread(paused.reached.wait, 5)
    await both.apublish("create")
    await both.apublish("update")
    await Letter.objects.acreate(channel=post, body="live")
    paused.go.set()
    await listening

    await heard.wait_for(3)
    await Letter.objects.acreate(channel=post, body="last")
    await heard.wait_for(4)
    assert bodies(heard) == ["missed", "in both", "live", "last"]


async def test_an_update_after_the_read_is_not_lost(manager, user, post, paused):
    """Dropped is only what says nothing new."""
    letter = await Letter.objects.acreate(channel=post, body="old", written_at=at(1))
    paused("read_missed")
    heard = Heard()

    listening = manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await asyncio.to_thread(paused.reached.wait, 5)
    letter.body = "new"
    await letter.asave()
    await letter.adelete()
    paused.go.set()
    await listening

    await heard.wait_for(3)
    assert bodies(heard) == ["old", "new", "new"]
    assert [each.publication.event for each in heard.values] == [
        "create",
        "update",
        "delete",
    ]


async def test_a_creation_that_arrives_late_is_known(manager, user, post):
    """Its transaction was read, and only then it was published."""
    letter = await Letter.objects.acreate(channel=post, body="once")
    heard = Heard()
    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)

    await letter.apublish("create")
    await letter.apublish("update")
    await heard.wait_for(2)

    assert [each.publication.event for each in heard.values] == ["create", "update"]


async def test_nothing_is_lost_or_repeated_while_others_write(
    engine, user, post, in_thread
):
    """Each publication exactly once, in order, however reading and writing fall."""
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set() and number < 2_000:
            Letter.objects.create(channel=post, body=str(number))
            number += 1
        return number

    writing = asyncio.create_task(in_thread(write))
    everything = []
    for _ in range(4):
        heard = Heard()
        manager = SubscriptionManager(engine)
        await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
        await heard.wait_for(len(heard.values) + 5)
        await manager.stop()
        everything += bodies(heard)
        await receipts(len(everything))
    stop.set()
    written = await writing
    heard = Heard()
    manager = SubscriptionManager(engine)
    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await manager.stop()
    everything += bodies(heard)

    assert everything == [str(number) for number in range(written)]


async def test_only_what_the_manager_shows_of_tracked_models(manager, user, post, engine):
    """Rows that the default manager hides, untracked models and ended subscriptions are
    left out."""
    other = await Channel.objects.acreate(name="other")
    await other.asubscribe(user)
    await other.aunsubscribe(user)
    await Letter.objects.acreate(channel=post, body="hidden", is_withdrawn=True)
    await Letter.objects.acreate(channel=other, body="elsewhere")
    await Message.objects.acreate(channel=post, body="untracked")
    await Letter.objects.acreate(channel=post, body="shown")
    heard = Heard()

    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)

    assert bodies(heard) == ["shown"]


async def test_a_row_with_an_inherited_table_comes_as_what_it_is(engine, user, post):
    """Once, not as its parent too; and its receipt counts for the parent's row."""
    await Postcard.objects.acreate(channel=post, body="greetings", picture="sea")
    heard = Heard()
    manager = SubscriptionManager(engine)

    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await receipts(1)
    await manager.stop()

    [postcard] = heard.values
    assert isinstance(postcard, Postcard) and postcard.picture == "sea"
    assert await asyncio.to_thread(lambda: list(Letter.objects.get_undelivered())) == []


async def test_a_limit_takes_the_oldest_and_leaves_the_rest(manager, user, post):
    """Asked again, a reader hands over the rest; 0 says that nothing is left."""
    subscription = await user.subscriptions.aget()
    for hours in range(5):
        await Letter.objects.acreate(channel=post, body=str(hours), written_at=at(hours))
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)

    counts = [await reader.catch_up(limit=2) for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    assert bodies(heard) == ["0", "1", "2", "3", "4"]
    assert reader.is_active


async def test_the_setting_bounds_a_connection(site, settings, user, post):
    """``limits["catch_up_messages"]``, and the argument before it."""
    from redis_pubsub.conf import get_config
    from redis_pubsub.engine import Engine

    settings.REDIS_PUBSUB = site | {"limits": {"catch_up_messages": 3}}
    for hours in range(9):
        await Letter.objects.acreate(channel=post, body=str(hours), written_at=at(hours))
    engine = Engine(get_config())
    await engine.start()
    heard = Heard()
    for limit in (None, 2):
        manager = SubscriptionManager(engine)
        await manager.listen_to_all_subscriptions(
            user, heard, catch_up=True, catch_up_limit=limit
        )
        await manager.stop()
    await engine.close()

    assert bodies(heard) == ["0", "1", "2", "3", "4"]


async def test_rows_are_read_in_chunks(manager, user, post, monkeypatch):
    """In order all the same, through callbacks of either kind."""
    monkeypatch.setattr(catchup, "CHUNK", 3)
    for hours in range(8):
        await Letter.objects.acreate(channel=post, body=str(hours), written_at=at(hours))
    heard = []

    async def callback(channel, letter):
        await asyncio.sleep(0)
        heard.append(letter.body)

    await manager.listen_to_all_subscriptions(user, callback, catch_up=True)

    assert heard == [str(hours) for hours in range(8)]


async def test_a_channel_subscribed_later_is_caught_up_with_too(manager, user, post):
    """Its rows are undelivered as well, and none falls between."""
    heard = Heard()
    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    later = await Channel.objects.acreate(name="later")
    await Letter.objects.acreate(channel=later, body="before")

    await later.asubscribe(user)
    await heard.wait_for(1)
    await Letter.objects.acreate(channel=later, body="after")

    await heard.wait_for(2)
    assert bodies(heard) == ["before", "after"]


async def test_false_ends_a_reader_and_the_rest_stays_undelivered(engine, user, post):
    """P27 holds here too."""
    for hours in range(3):
        await Letter.objects.acreate(channel=post, body=str(hours), written_at=at(hours))
    heard = Heard(None, False)
    manager = SubscriptionManager(engine)

    await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await receipts(2)
    await manager.stop()

    assert bodies(heard) == ["0", "1"]
    left = await asyncio.to_thread(lambda: list(Letter.objects.get_undelivered()))
    assert [letter.body for _, letter in left] == ["2"]


async def test_what_has_no_receipt_yet_is_known_to_be_delivered(
    manager, user, post, monkeypatch, until
):
    """The database is slow with receipts; the reader asks all the same."""
    go = threading.Event()
    monkeypatch.setattr(recorder, "record", lambda batch: go.wait(5))
    subscription = await user.subscriptions.aget()
    heard = Heard()
    reader = subscription.get_reader(manager).callback(heard)
    await reader.listen()
    await Letter.objects.acreate(channel=post, body="live")
    await heard.wait_for(1)

    again = await reader.catch_up()
    go.set()

    assert (again, bodies(heard)) == (0, ["live"])


async def test_a_database_that_fails_is_told_and_live_messages_arrive(
    manager, user, post, engine, monkeypatch
):
    """The handler hears of it; the readers are not held for ever."""

    def fail(*args):
        raise DatabaseError("down")

    monkeypatch.setattr(catchup, "find_missed", fail)
    heard = Heard()

    with pytest.raises(DatabaseError):
        await manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await Letter.objects.acreate(channel=post, body="live")

    await heard.wait_for(1)
    assert engine.metrics["catch_up_failed"] == 1


async def test_stopping_meanwhile_ends_it(engine, user, post, paused):
    """A client that leaves while it catches up holds nothing back."""
    await Letter.objects.acreate(channel=post, body="missed")
    paused("find_missed")
    heard = Heard()
    manager = SubscriptionManager(engine)

    listening = manager.listen_to_all_subscriptions(user, heard, catch_up=True)
    await asyncio.to_thread(paused.reached.wait, 5)
    await manager.stop()
    paused.go.set()

    with pytest.raises(asyncio.CancelledError):
        await listening
    assert heard.values == [] and manager.readers == {}


async def test_what_cannot_be_meant_is_refused(manager, user, post):
    """A limit below 1; a reader without callbacks."""
    reader = (await user.subscriptions.aget()).get_reader(manager)

    with pytest.raises(NoCallback):
        await reader.catch_up()
    for limit in (0, -1):
        with pytest.raises(ValueError, match="1 at least"):
            manager.listen_to_all_subscriptions(
                user, print, catch_up=True, catch_up_limit=limit
            )


async def test_a_handler_hands_over_what_was_missed(user, post):
    """As docs/howto/missed.rst has it: over a socket, then live, then nothing anew."""

    @websocket_pubsub("/letters/", authenticate=True)
    async def letters(ws, params, manager, user):
        def letter(channel_name, value):
            ws.send_json({"body": value.body})

        await manager.listen_to_all_subscriptions(user, letter, catch_up=True)
        async for _ in ws:
            pass

    await Letter.objects.acreate(channel=post, body="missed")

    async with pubsub_site(letters) as site:
        ws = await site.connect("/letters/", user=user)
        first = await ws.receive_json()
        await Letter.objects.acreate(channel=post, body="live")
        await site.commit()
        second = await ws.receive_json()
        await ws.close()
        await receipts(2)
        ws = await site.connect("/letters/", user=user)
        await Letter.objects.acreate(channel=post, body="last")
        await site.commit()
        third = await ws.receive_json()

    assert [first, second, third] == [{"body": b} for b in ("missed", "live", "last")]
