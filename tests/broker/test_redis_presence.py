"""Presence: what is particular to Redis: keys, their lives, round trips, deaths halfway."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from redis_pubsub.broker import open_broker
from redis_pubsub.broker.presence import Counts, presence_channel
from redis_pubsub.broker.redis_presence import RedisPresence
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions

from .test_presence_contract import TTL_S, Inbox, clients, enter, exit, gone


@pytest.fixture
async def options(redis_server, prefix):
    return BrokerOptions(url=redis_server.url, prefix=prefix)


@pytest.fixture
async def metrics():
    return Metrics()


@pytest.fixture
async def inbox():
    return Inbox()


@pytest.fixture
async def broker(options, metrics, inbox):
    broker = open_broker(options, metrics)
    await broker.start(inbox)
    await broker.subscribe(presence_channel("room"))
    yield broker
    await broker.close()


@pytest.fixture
async def store(broker):
    await broker.presence.begin("n1", TTL_S)
    return broker.presence


@pytest.fixture
async def admin(options):
    admin = redis.asyncio.from_url(options.url)
    yield admin
    await admin.aclose()


@pytest.fixture
def keys(admin, prefix):
    """``await keys()``: what the test left in Redis, without the prefix."""

    async def names():
        found = [key.decode() async for key in admin.scan_iter(f"{prefix}:*")]
        return sorted(name.removeprefix(f"{prefix}:") for name in found)

    return names


async def test_nothing_stays_when_the_last_has_left(store, keys):
    """No key of the channel, and after `end` none of the node."""
    await store.write("n1", TTL_S, [enter("a", "7"), enter("b")])
    entered = await keys()

    await store.write("n1", TTL_S, [exit("a", "7"), exit("b")])
    left = await keys()
    await store.end("n1")

    assert entered == [
        "node:{n1}",
        "node:{n1}:channels",
        "nodes",
        "{room}:presence",
        "{room}:presence-nodes",
        "{room}:presence-users",
    ]
    assert left == ["node:{n1}", "node:{n1}:channels", "nodes"]
    assert await keys() == []


async def test_a_reaped_node_leaves_a_note_and_nothing_else(store, keys, admin, prefix):
    """The note tells its process, should it come back; it expires."""
    await store.write("n1", TTL_S, [enter("a"), enter("b", channel="other")])
    await gone(store, "n1")

    assert await store.reap("n2", 0.001) == 2

    async with asyncio.timeout(5):
        while await keys() != ["node:{n1}:end"]:
            await asyncio.sleep(0.002)
    assert await admin.ttl(f"{prefix}:node:{{n1}}:end") > 0


async def test_every_key_expires(store, keys, admin, prefix):
    """A site that is switched off leaves nothing for ever."""
    await store.write("n1", TTL_S, [enter("a")])

    ttl = {name: await admin.ttl(f"{prefix}:{name}") for name in await keys()}

    assert all(0 < seconds <= 7 * 24 * 3600 for seconds in ttl.values()), ttl
    assert ttl["node:{n1}"] <= TTL_S
    assert len(ttl) == 6


async def test_an_emptied_channel_is_listed_no_more(store, admin, prefix):
    """A process that serves many channels in its life does not keep all their names."""
    listed = f"{prefix}:node:{{n1}}:channels"
    await store.write("n1", TTL_S, [enter("a"), enter("a", channel="other")])
    await store.write("n1", TTL_S, [exit("a")])

    await store.write("n1", TTL_S, emptied=["room"])

    assert await admin.smembers(listed) == {b"other"}


async def test_a_hundred_changes_are_one_round_trip(store, admin):
    """One write to Redis and one read back."""
    await store.write("n1", TTL_S, [enter("first")])
    before = (await admin.info("stats"))["total_reads_processed"]

    await store.write("n1", TTL_S, [enter(f"c{n}") for n in range(100)])

    after = (await admin.info("stats"))["total_reads_processed"]
    # Redis reads 16 KiB at a time; one by one it would be a hundred reads and more.
    assert after - before < 20


class Mortal:
    """Round trips of a process that dies after some of them."""

    def __init__(self, run, trips):
        self._run = run
        self._trips = trips

    async def __call__(self, commands):
        if not self._trips:
            raise BrokerUnavailable("the process died")
        self._trips -= 1
        return await self._run(commands)


async def test_a_reaper_that_dies_anywhere_leaves_the_rest_to_the_next(
    broker, store, inbox, keys
):
    """After each of its round trips: every leave is announced, and once."""
    names = [f"c{n}" for n in range(5)]
    trips, has_finished = 0, False
    while not has_finished:
        node = f"dead{trips}"
        await store.begin(node, TTL_S)
        await store.write(node, TTL_S, [enter(name, node=node) for name in names])
        await gone(store, node)
        mortal = RedisPresence(
            Mortal(broker.presence._run, trips), broker.presence._commands
        )
        inbox.heard.clear()

        try:
            await mortal.reap("first", 0.001)
            has_finished = True
        except BrokerUnavailable:
            trips += 1
            async with asyncio.timeout(5):
                while f"node:{{{node}}}:channels" in await keys():
                    await store.reap("second", 0.001)
        await store.write("n1", TTL_S, [enter("last")])
        await store.write("n1", TTL_S, [exit("last")])

        heard = await inbox.wait_for(7)
        assert sorted(heard[:5]) == [("leave", name) for name in names]
        assert heard[5:] == [("join", "last"), ("leave", "last")]
    assert trips >= 5


async def test_a_member_that_moved_while_it_was_reaped_stays(broker, store, inbox):
    """What a reaper has read it removes only as it was read."""
    await store.begin("slow", TTL_S)
    await store.write("slow", TTL_S, [enter("a", node="slow")])
    await gone(store, "slow")

    async def run(commands):
        if commands[0][0] == "EVALSHA":
            await store.begin("slow.2", TTL_S, replaces="slow")
            await store.write("slow.2", TTL_S, [enter("a", node="slow.2")])
        return await broker.presence._run(commands)

    removed = await RedisPresence(run, broker.presence._commands).reap("n1", 0.001)
    await store.write("n1", TTL_S, [enter("last")])

    assert removed == 0
    assert await clients(store) == ["a", "last"]
    assert await inbox.wait_for(2) == [("join", "a"), ("join", "last")]


async def test_what_is_no_member_is_skipped_and_can_be_overwritten(
    store, admin, prefix, metrics
):
    """Whoever can write to Redis can write nonsense; it must not stop anybody."""
    await admin.hset(
        f"{prefix}:{{room}}:presence",
        mapping={"a": "nonsense", "b": 'n1 00 "7"\nno json', "c": b"\xff"},
    )

    assert await clients(store) == []
    await store.write("n1", TTL_S, [enter("a"), exit("b"), enter("d")])

    assert await clients(store) == ["a", "d"]
    assert metrics["malformed_messages"] == 3 + 1


async def test_counts_of_a_list_that_was_lost_do_not_stay(store, admin, prefix, inbox):
    """A user whose connections are still counted would never join again."""
    await store.write("n1", TTL_S, [enter("a", "7", by_user=True)])
    await admin.delete(f"{prefix}:{{room}}:presence")

    await store.write("n1", TTL_S, [enter("b", "7", by_user=True)])

    assert await inbox.wait_for(2) == [("join", "a"), ("join", "b")]
    assert await store.counts("room") == Counts(1, 1)


async def test_a_member_that_moves_to_another_node_is_counted_there(store, admin, prefix):
    """No count is left behind."""
    await store.write("n1", TTL_S, [enter("a", "7")])
    await store.begin("n2", TTL_S)

    await store.write("n2", TTL_S, [enter("a", "7", "n2")])

    assert await admin.hgetall(f"{prefix}:{{room}}:presence-nodes") == {b"n2": b"1"}
    assert await admin.hgetall(f"{prefix}:{{room}}:presence-users") == {b'"7"': b"1"}
