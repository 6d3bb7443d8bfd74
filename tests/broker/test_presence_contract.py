"""What every broker's list of members promises, kept by Redis and memory alike."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from redis_pubsub import wire
from redis_pubsub.broker import open_blocking, open_broker
from redis_pubsub.broker.presence import Change, Counts, Member, presence_channel
from redis_pubsub.exceptions import MalformedMessage
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions

TTL_S = 60


class Inbox:
    """A sink that remembers joins and leaves as ``(event, payload)``."""

    def __init__(self, key=""):
        self._envelope = wire.Envelope(key)
        self.heard = []
        self.changed = asyncio.Event()

    def deliver(self, channel, data):
        message = self._envelope.parse(channel, data)
        self.heard.append((message.event, message.payload))
        self.changed.set()

    def resubscribed(self, channel):
        pass

    async def wait_for(self, count):
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.heard


@pytest.fixture(params=["redis", "memory"])
def options(request, prefix):
    if request.param == "memory":
        return BrokerOptions(url=f"memory://{uuid.uuid4().hex}", prefix=prefix)
    return BrokerOptions(url=request.getfixturevalue("redis_server").url, prefix=prefix)


@pytest.fixture
async def inbox():
    return Inbox()


@pytest.fixture
async def broker(options, inbox):
    broker = open_broker(options, Metrics())
    await broker.start(inbox)
    await broker.subscribe(presence_channel("room"))
    yield broker
    await broker.close()


@pytest.fixture
async def store(broker):
    """The list, with two nodes that are alive."""
    await broker.presence.begin("n1", TTL_S)
    await broker.presence.begin("n2", TTL_S)
    return broker.presence


def info(client):
    return b'"%s"' % client.encode()


def member(client, user="", node="n1"):
    return Member(client, user, node, info(client))


def change(
    kind, client, user="", node="n1", *, channel="room", by_user=False, announce=True
):
    return Change(channel, member(client, user, node), kind, by_user, announce)


def enter(*args, **options):
    return change("enter", *args, **options)


def exit(*args, **options):
    return change("exit", *args, **options)


async def clients(store, channel="room"):
    return sorted(member.client for member in await store.members(channel))


async def gone(store, node):
    """Let a node's life end: until the store knows it no more."""
    async with asyncio.timeout(5):
        while await store.write(node, 0.001):
            await asyncio.sleep(0.002)


async def test_who_entered_is_listed_as_given(store):
    """Client, user, node and info come back, of this channel only."""
    ada = Member("c1", 'seven "\n é', "n1", '{"user":"ä"}'.encode())

    is_known = await store.write(
        "n1", TTL_S, [Change("room", ada, "enter"), enter("c2", channel="other")]
    )

    assert is_known
    assert await store.members("room") == [ada]
    assert await clients(store, "other") == ["c2"]
    assert await store.members("nowhere") == []


async def test_who_left_is_not_listed(store):
    """And others stay."""
    await store.write("n1", TTL_S, [enter("c1"), enter("c2")])

    await store.write("n1", TTL_S, [exit("c1")])

    assert await clients(store) == ["c2"]


async def test_counts(store):
    """W-13: connections, and different users; the anonymous are one user together."""
    await store.write(
        "n1", TTL_S, [enter("c1", "7"), enter("c2", "7"), enter("c3"), enter("c4")]
    )
    await store.write("n2", TTL_S, [enter("c5", "8", "n2")])

    assert await store.counts("room") == Counts(clients=5, users=3)
    assert await store.counts("nowhere") == Counts(0, 0)


async def test_joins_and_leaves_are_heard_in_the_order_of_the_changes(store, inbox):
    """Each with the member's info, as a message of the companion channel."""
    await store.write("n1", TTL_S, [enter("a"), enter("b"), exit("a"), enter("c")])

    assert await inbox.wait_for(4) == [
        ("join", "a"),
        ("join", "b"),
        ("leave", "a"),
        ("join", "c"),
    ]


async def test_nothing_is_announced_that_was_not_asked_for(store, inbox):
    """Presence works without join_leave; a restored member does not join."""
    quiet = [
        enter("a", announce=False),
        exit("a", announce=False),
        change("restore", "b"),
    ]
    await store.write("n1", TTL_S, [*quiet, enter("last")])

    assert await inbox.wait_for(1) == [("join", "last")]
    assert await clients(store) == ["b", "last"]


async def test_entering_twice_is_one_join_and_leaving_twice_one_leave(store, inbox):
    """The last info given is the one that is shown."""
    again = Change("room", Member("a", "", "n1", b'"new"'), "enter", announce=True)

    await store.write("n1", TTL_S, [exit("a"), enter("a"), again])
    shown = await store.members("room")
    await store.write("n1", TTL_S, [exit("a"), exit("a"), enter("last")])

    assert [member.info for member in shown] == [b'"new"']
    assert await inbox.wait_for(3) == [("join", "a"), ("leave", "a"), ("join", "last")]
    assert await store.counts("room") == Counts(1, 1)


async def test_by_user_only_the_first_joins_and_only_the_last_leaves(store, inbox):
    """Over all processes; the leave shows who left last."""
    options = {"by_user": True}
    await store.write("n1", TTL_S, [enter("tab1", "7", **options)])
    await store.write("n2", TTL_S, [enter("tab2", "7", "n2", **options)])
    await store.write("n1", TTL_S, [exit("tab1", "7", **options)])
    await store.write("n2", TTL_S, [exit("tab2", "7", "n2", **options)])

    assert await inbox.wait_for(2) == [("join", "tab1"), ("leave", "tab2")]


async def test_by_user_the_anonymous_join_and_leave_one_by_one(store, inbox):
    """Nobody knows whether two of them are one person."""
    changes = [enter("a"), enter("b"), exit("a"), exit("b")]

    await store.write(
        "n1", TTL_S, [Change("room", c.member, c.kind, True, True) for c in changes]
    )

    events = [("join", "a"), ("join", "b"), ("leave", "a"), ("leave", "b")]
    assert await inbox.wait_for(4) == events


async def test_announcements_are_signed(options, prefix):
    """With an envelope_key they hold, and without it nobody believes them."""
    options = BrokerOptions(url=options.url, prefix=prefix, envelope_key="secret")
    inbox = Inbox("secret")
    broker = open_broker(options, Metrics())
    await broker.start(inbox)
    await broker.subscribe(presence_channel("room"))
    raw = []
    inbox_deliver = inbox.deliver
    inbox.deliver = lambda *message: (raw.append(message), inbox_deliver(*message))

    await broker.presence.begin("n1", 0.001)
    await broker.presence.write("n1", 0.001, [enter("a"), enter("b"), exit("a")])
    while not await broker.presence.reap("test", 0.001):
        await asyncio.sleep(0.002)

    events = [("join", "a"), ("join", "b"), ("leave", "a"), ("leave", "b")]
    assert await inbox.wait_for(4) == events
    with pytest.raises(MalformedMessage):
        wire.Envelope("another").parse(*raw[0])
    await broker.close()


async def test_a_node_that_is_gone_stays_gone(store):
    """Its members are not shown, not counted, and writing for it does not bring it
    back: a process that slept begins anew."""
    await store.write("n1", TTL_S, [enter("a", "7"), enter("b", "7")])
    await store.write("n2", TTL_S, [enter("c", "7", "n2"), enter("d", "8", "n2")])

    await gone(store, "n2")

    assert await clients(store) == ["a", "b"]
    assert await store.counts("room") == Counts(clients=2, users=1)
    assert not await store.write("n2", TTL_S, [enter("e", "9", "n2")])
    assert await clients(store) == ["a", "b"]


async def test_members_of_a_node_that_is_gone_leave(store, inbox):
    """The reaper announces as the channel's options said when they entered."""
    await store.write("n1", TTL_S, [enter("stays", "7", by_user=True)])
    await store.write(
        "n2",
        TTL_S,
        [
            enter("tab", "7", "n2", by_user=True),
            enter("alone", "8", "n2", by_user=True),
            enter("quiet", "9", "n2", announce=False),
            enter("elsewhere", node="n2", channel="other"),
        ],
    )
    await gone(store, "n2")

    removed = await store.reap("n1", 0.001)
    await store.write("n1", TTL_S, [enter("last")])

    assert removed == 4
    assert await inbox.wait_for(4) == [
        ("join", "stays"),
        ("join", "alone"),
        ("leave", "alone"),
        ("join", "last"),
    ]
    assert await clients(store) == ["last", "stays"]
    assert await store.counts("room") == Counts(2, 2)


async def test_two_reapers_at_once_announce_each_leave_once(store, inbox):
    """One holds off the other, and if not, nothing happens twice."""
    await store.write("n2", TTL_S, [enter(f"c{n}", node="n2") for n in range(50)])
    await gone(store, "n2")

    removed = await asyncio.gather(*(store.reap(f"r{n}", 0.001) for n in range(5)))
    await store.write("n1", TTL_S, [enter("last")])

    assert sum(removed) == 50
    heard = await inbox.wait_for(101)
    assert sorted(who for event, who in heard if event == "leave") == sorted(
        f"c{n}" for n in range(50)
    )
    assert heard[-1] == ("join", "last")


async def test_the_reaper_holds_off_others(store):
    """However many processes: one looks, the others have nothing to do."""
    assert await store.reap("r1", TTL_S) == 0
    await store.write("n2", TTL_S, [enter("a", node="n2")])
    await gone(store, "n2")

    assert await store.reap("r2", TTL_S) == 0


async def test_a_process_that_comes_back_before_the_reaper_moves_its_members(store, inbox):
    """It answers for them: nobody hears of it."""
    await store.write("n2", TTL_S, [enter("a", node="n2"), enter("b", node="n2")])
    await gone(store, "n2")

    may_have_left = await store.begin("n2b", TTL_S, replaces="n2")
    removed = await store.reap("n1", 0.001)
    await store.write(
        "n2b", TTL_S, [change("restore", name, node="n2b") for name in ("a", "b")]
    )
    await store.write("n1", TTL_S, [enter("last")])

    assert (may_have_left, removed) == (False, 0)
    joins = [("join", "a"), ("join", "b"), ("join", "last")]
    assert await inbox.wait_for(3) == joins
    assert await clients(store) == ["a", "b", "last"]
    assert await store.counts("room") == Counts(3, 1)


async def test_a_process_that_comes_back_after_the_reaper_is_told(store, inbox):
    """Its members have left for the others, so they join again."""
    await store.write("n2", TTL_S, [enter("a", node="n2")])
    await gone(store, "n2")
    assert await store.reap("n1", 0.001) == 1

    may_have_left = await store.begin("n2b", TTL_S, replaces="n2")
    await store.write("n2b", TTL_S, [enter("a", node="n2b")])

    assert may_have_left
    assert await inbox.wait_for(3) == [("join", "a"), ("leave", "a"), ("join", "a")]


async def test_the_blocking_side_sees_the_same(options, store):
    """Views and commands ask who is there."""
    await store.write("n1", TTL_S, [enter("a", "7"), enter("b")])
    blocking = open_blocking(options, Metrics())

    members = await asyncio.to_thread(blocking.presence.members, "room")
    counts = await asyncio.to_thread(blocking.presence.counts, "room")
    await asyncio.to_thread(blocking.close)

    by_client = sorted(members, key=lambda member: member.client)
    assert by_client == [member("a", "7"), member("b")]
    assert counts == Counts(2, 2)
