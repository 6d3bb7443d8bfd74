"""M-8: what every broker promises, kept by the Redis and the memory broker alike."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid

import pytest

from redis_pubsub import wire
from redis_pubsub.broker import REVERSE, TAIL, Read, open_blocking, open_broker
from redis_pubsub.broker.commands import Commands
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.messages import Draft, Position, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions, ChannelOptions

KEPT = ChannelOptions(history_size=5, history_ttl_s=60)


class Inbox:
    """A sink that remembers."""

    def __init__(self):
        self.messages = []
        self.again = []
        self.changed = asyncio.Event()

    def deliver(self, channel, data):
        self.messages.append(wire.Envelope().parse(channel, data))
        self.changed.set()

    def resubscribed(self, channel):
        self.again.append(channel)
        self.changed.set()

    async def wait_for(self, count):
        async with asyncio.timeout(5):
            while len(self.messages) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.messages

    @property
    def payloads(self):
        return [message.payload for message in self.messages]


@pytest.fixture(params=["redis", "memory"])
def options(request, prefix):
    if request.param == "memory":
        return BrokerOptions(url=f"memory://{uuid.uuid4().hex}", prefix=prefix)
    return BrokerOptions(
        url=request.getfixturevalue("redis_server").url,
        prefix=prefix,
        subscribe_timeout_s=2,
    )


@pytest.fixture
async def inbox():
    return Inbox()


@pytest.fixture
async def broker(options, inbox):
    broker = open_broker(options, Metrics())
    await broker.start(inbox)
    yield broker
    await broker.close()


def draft(payload, channel="news", options=KEPT, **header):
    raw = str(payload).encode()
    version = header.pop("version", None)
    return Draft(channel, new_header(**header), raw, options, version)


async def read(broker, channel, **how):
    (history,) = await broker.read([Read(channel, **how)])
    return history


async def test_nothing_is_missed_after_subscribe_returned(broker, inbox):
    """M-8, P-5: on either broker, the first message published after a listen arrives."""
    await broker.subscribe("news")

    await broker.publish([draft(1)])

    assert [m.payload for m in await inbox.wait_for(1)] == [1]


async def test_offsets_are_dense_and_the_epoch_stays(broker):
    """Positions count 1, 2, 3 … in one epoch."""
    positions = await broker.publish([draft(n) for n in range(3)])

    assert [position.offset for position in positions] == [1, 2, 3]
    assert len({position.epoch for position in positions}) == 1


async def test_subscribers_see_the_order_of_the_history(broker, inbox):
    """C-15: 10,000 messages of two publishers arrive in the order of their offsets."""
    await broker.subscribe("news")

    batches = [[draft(n) for n in range(500)] for _ in range(20)]
    await asyncio.gather(*(broker.publish(batch) for batch in batches))

    messages = await inbox.wait_for(10_000)
    assert [m.position.offset for m in messages] == list(range(1, 10_001))


async def test_without_history_a_message_has_no_offset(broker, inbox):
    """Raw channels keep nothing and count nothing."""
    await broker.subscribe("raw")

    (position,) = await broker.publish([draft(1, "raw", ChannelOptions())])

    assert position == Position("", 0)
    assert (await inbox.wait_for(1))[0].position == Position("", 0)
    assert (await read(broker, "raw")).messages == []


async def test_history_keeps_the_newest(broker):
    """Size is exact; reads go forward from an offset, or backward from the end."""
    await broker.publish([draft(n) for n in range(1, 9)])

    everything = await read(broker, "news")
    newest = await read(broker, "news", limit=2, order=REVERSE)
    since = await read(broker, "news", since=6)
    position = await read(broker, "news", limit=0)

    assert [m.payload for m in everything.messages] == [4, 5, 6, 7, 8]
    assert [m.payload for m in newest.messages] == [8, 7]
    assert [m.payload for m in since.messages] == [7, 8]
    assert position.messages == [] and position.position.offset == 8
    assert [m.position.offset for m in since.messages] == [7, 8]


async def test_a_read_of_the_tail_reaches_the_end(broker):
    """Of more messages than the limit the newest come, so that they join what is live."""
    await broker.publish([draft(n) for n in range(1, 9)])

    few = await read(broker, "news", since=6, limit=4, order=TAIL)
    many = await read(broker, "news", since=1, limit=4, order=TAIL)
    none = await read(broker, "news", since=8, limit=4, order=TAIL)

    assert [m.payload for m in few.messages] == [7, 8]
    assert [m.payload for m in many.messages] == [5, 6, 7, 8]
    assert none.messages == [] and none.position.offset == 8


async def test_many_channels_are_read_at_once(broker):
    """The answers come in the order of the questions."""
    await broker.publish([draft(1, "a"), draft(2, "b"), draft(3, "b")])

    histories = await broker.read([Read("b"), Read("a"), Read("c", begins=False)])

    assert [[m.payload for m in h.messages] for h in histories] == [[2, 3], [1], []]
    assert histories[2].position == Position("", 0)


async def test_a_plain_value_joins_a_history_and_begins_none(broker):
    """Who was given a position is told of everything after it; who was not pays nothing."""
    joining = dataclasses.replace(draft(1, "room"), joins_history=True)

    (before,) = await broker.publish([joining])
    begun = (await read(broker, "room", limit=0)).position
    (after,) = await broker.publish([joining])

    assert before == Position("", 0)
    assert after == Position(begun.epoch, 1)
    assert len((await read(broker, "room")).messages) == 1


async def test_a_notice_says_how_many_processes_heard_it(broker, inbox):
    """Nobody, or those who want the channel; no history keeps it."""
    await broker.subscribe("here")

    heard = await broker.notify(draft(1, "here"))
    unheard = await broker.notify(draft(1, "nowhere"))

    assert (heard, unheard) == (1, 0)
    assert (await inbox.wait_for(1))[0].position == Position("", 0)


async def test_a_position_read_before_the_first_message_is_the_one_it_continues(broker):
    """An epoch that was handed out is not changed by the first publish."""
    before = (await read(broker, "news", limit=0)).position

    (after,) = await broker.publish([draft(1)])

    assert after == Position(before.epoch, 1)


async def test_an_older_version_of_a_row_is_dropped(broker, inbox):
    """Writers that race never take a client back."""
    await broker.subscribe("rows")
    row = {"channel": "rows", "model": "shop.order", "pk": "1"}

    sent = await broker.publish(
        [
            draft(2, version=2, **row),
            draft(1, version=1, **row),
            draft(3, version=10, **row),
        ]
    )
    other = await broker.publish([draft(4, version=1, **(row | {"pk": "2"}))])

    assert sent[1] is None and sent[2].offset == 2 and other[0].offset == 3
    assert [m.payload for m in await inbox.wait_for(3)] == [2, 3, 4]


async def test_only_wanted_channels_arrive(broker, inbox):
    """After unsubscribe nothing comes any more."""
    await broker.subscribe("a")
    await broker.subscribe("b")
    await broker.unsubscribe("a")

    await broker.publish([draft(1, "a"), draft(2, "b")])

    assert [m.payload for m in await inbox.wait_for(1)] == [2]


async def test_subscribe_unsubscribe_subscribe_hears_everything_after(broker, inbox):
    """A confirmation of the first wish does not pass for one of the second."""
    first = broker.subscribe("a")
    await asyncio.sleep(0)
    await broker.unsubscribe("a")
    await asyncio.gather(first, return_exceptions=True)
    await broker.subscribe("a")

    await broker.publish([draft(1, "a")])

    assert [m.payload for m in await inbox.wait_for(1)] == [1]


async def test_a_paused_broker_delivers_later_and_in_order(broker, inbox):
    """What comes meanwhile is not lost."""
    await broker.subscribe("news")
    broker.pause()
    await broker.publish([draft(n) for n in range(50)])

    broker.resume()

    messages = await inbox.wait_for(50)
    assert [m.payload for m in messages] == list(range(50))


async def test_the_blocking_side_publishes_the_same_messages(options, broker, inbox):
    """W-1 of the ancestors: views and commands share only the broker with sockets."""
    await broker.subscribe("news")
    blocking = open_blocking(options, Metrics())

    positions = await asyncio.to_thread(
        blocking.publish, [draft(1, event="create"), draft(2, event="update")]
    )
    history = (await asyncio.to_thread(blocking.read, [Read("news")]))[0]
    await asyncio.to_thread(blocking.close)

    messages = await inbox.wait_for(2)
    assert [(m.event, m.payload) for m in messages] == [("create", 1), ("update", 2)]
    assert [m.position for m in messages] == positions
    assert [m.payload for m in history.messages] == [1, 2]


async def test_channels_do_not_mix_however_they_are_spelt(broker, inbox):
    """W-9: names are injective; no pattern, brace or colon makes two channels one."""
    names = ["a", "a:b", "a{b}", "a%7bb%7d", "*", "a*", "A", "ä", "a\u0308", "a b"]
    for name in names:
        await broker.subscribe(name)

    await broker.publish([draft(n, name) for n, name in enumerate(names)])

    messages = await inbox.wait_for(len(names))
    assert {m.channel: m.payload for m in messages} == {n: i for i, n in enumerate(names)}


async def test_a_megabyte_passes(broker, inbox):
    """C-15: a message of 1 MB arrives whole."""
    await broker.subscribe("big")
    raw = b'"' + b"x" * 1_000_000 + b'"'

    await broker.publish([Draft("big", new_header(), raw)])

    assert (await inbox.wait_for(1))[0].raw == raw


def test_prefixes_and_names_make_injective_keys():
    """`a:b` of project `x` is not `b` of project `x:a`."""
    keys = {
        Commands(BrokerOptions(prefix=prefix), Metrics()).live(channel)
        for prefix in ("x", "x:a", "x:{a}")
        for channel in ("b", "a:b", "{a}:b", "a}:{b", "%7ba", "{a")
    }

    assert len(keys) == 18


async def test_a_broker_nobody_answers_says_so_in_time(inbox):
    """A listen has a bound: BrokerUnavailable, and the process goes on."""
    options = BrokerOptions(url="unix:///nowhere/redis.sock", subscribe_timeout_s=0.2)
    metrics = Metrics()
    broker = open_broker(options, metrics)
    await broker.start(inbox)

    with pytest.raises(BrokerUnavailable):
        await broker.subscribe("news")
    with pytest.raises(BrokerUnavailable):
        await broker.publish([draft(1)])

    assert not broker.is_connected
    assert metrics["subscribe_failed"] == 1
    await broker.close()


async def test_what_is_put_is_taken_once(broker, options):
    """Put from either side; of many who take it at once one gets it."""
    blocking = open_blocking(options, Metrics())
    await broker.put("a name", b"one", 30)
    await asyncio.to_thread(blocking.put, "another", b"two", 30)
    blocking.close()

    taken = await asyncio.gather(*(broker.take("a name") for _ in range(10)))

    assert taken.count(b"one") == 1 and taken.count(None) == 9
    assert await broker.take("another") == b"two"
    assert await broker.take("another") is None


async def test_what_nobody_takes_is_forgotten(broker):
    """When its time is over; others stay."""
    await broker.put("long", b"two", 30)

    async with asyncio.timeout(5):
        pause_s = 0.0
        while True:
            await broker.put("short", b"one", 0.005)
            await asyncio.sleep(pause_s)
            if await broker.take("short") is None:
                break
            pause_s += 0.005

    assert await broker.take("long") == b"two"


async def test_what_is_posted_is_published_in_order_and_told(options):
    """Before anything that is asked later, whoever has waited for it or not."""
    broker, told = open_blocking(options, Metrics()), []

    def work():
        for number in range(3):
            broker.post([draft(number)], told.append)
        (position,) = broker.publish([draft(3)])
        broker.settle()
        return position, broker.read([Read("news")])[0]

    position, history = await asyncio.to_thread(work)

    assert [message.payload for message in history.messages] == [0, 1, 2, 3]
    assert position.offset == 4 and told == [None] * 3 and broker.is_settled
    await asyncio.to_thread(broker.close)
