"""Holes are found and filled for all listeners of a process at once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
import redis.asyncio

from redis_pubsub.broker import Read, open_blocking, open_broker
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.hub import Hub, continuity
from redis_pubsub.messages import Draft, Position, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions, ChannelOptions
from redis_pubsub.testing import RedisServer

from .processes import free_port

KEPT = ChannelOptions(history_size=50, history_ttl_s=60)


class Listener:
    framing = None
    connection_id = ""

    def __init__(self):
        self.payloads = []
        self.lost = []

    def offer(self, messages):
        self.payloads += [message.payload for message in messages]

    def position_lost(self, channel):
        self.lost.append(channel)


@pytest.fixture(params=["redis", "memory"])
def url(request):
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url
    return f"memory://{uuid.uuid4().hex}"


class Lossy:
    """A hub's sink that loses what it is told to, as a network does."""

    def __init__(self, hub):
        self._deliver, self.lose, self.seen = hub.deliver, set(), 0
        hub.deliver = self.deliver

    def deliver(self, channel, data):
        self.seen += 1
        if self.seen not in self.lose:
            self._deliver(channel, data)


@pytest.fixture
async def hub(url, prefix):
    metrics = Metrics()
    hub = Hub(open_broker(BrokerOptions(url=url, prefix=prefix), metrics), metrics)
    hub.network = Lossy(hub)
    await hub.start()
    yield hub
    await hub.close()


async def say(hub, *payloads, channel="room", options=KEPT):
    drafts = [Draft(channel, new_header(), b"%d" % n, options) for n in payloads]
    return await hub.broker.publish(drafts)


async def test_a_hole_is_filled_in_order_for_everybody_by_one_read(hub, until):
    """An offset that jumps: the rest waits until the missing ones are there."""
    listeners = [Listener() for _ in range(20)]
    for listener in listeners:
        await hub.listen("room", listener)
    await say(hub, 1, 2)
    await until(lambda: listeners[-1].payloads == [1, 2])
    reads = hub.metrics["history_reads"]
    hub.network.lose = {3, 4}

    await say(hub, 3, 4, 5)
    await say(hub, 6)

    await until(lambda: all(each.payloads == [1, 2, 3, 4, 5, 6] for each in listeners))
    assert hub.metrics["history_reads"] == reads + 1
    assert hub.metrics["holes_found"] == 1 and hub.metrics["messages_repaired"] >= 2
    assert not any(listener.lost for listener in listeners)


async def test_the_first_message_can_be_missed_and_found(hub, until):
    """A listener that has heard nothing yet is owed everything since it listens."""
    listener = Listener()
    await say(hub, 1)
    await hub.listen("room", listener)
    await until(lambda: hub.metrics["history_reads"])
    await asyncio.sleep(0.05)
    hub.network.lose = {1}

    await say(hub, 2, 3)

    await until(lambda: listener.payloads == [2, 3])
    assert listener.lost == []


async def test_after_a_reconnect_what_was_said_meanwhile_comes_at_once(hub, until):
    """Not with the next message, which may be long in coming."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])
    hub.network.lose = {2, 3}
    await say(hub, 2, 3)

    hub.resubscribed("room")

    await until(lambda: listener.payloads == [1, 2, 3])
    assert listener.lost == []


async def test_what_the_history_no_longer_has_is_told(hub, until):
    """More was missed than is kept: no silent gap, and what comes goes on."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 0)
    await until(lambda: listener.payloads == [0])
    hub.network.lose = set(range(2, 62))
    await say(hub, *range(1, 61))

    hub.resubscribed("room")
    await until(lambda: listener.lost == ["room"])
    await say(hub, 61)

    await until(lambda: listener.payloads == [0, 61])
    assert listener.lost == ["room"]


async def test_a_channel_without_history_is_told_of_a_reconnect_only(hub, until):
    """Nothing can be read for it, so nothing is claimed: offset-less messages flow."""
    listener = Listener()
    await hub.listen("raw", listener)

    await say(hub, 1, channel="raw", options=ChannelOptions())
    await until(lambda: listener.payloads == [1])

    assert listener.lost == []


async def test_another_epoch_is_a_lost_position(hub, until):
    """Redis lost its data: offsets begin anew, and nobody takes them for the old ones."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1, 2)
    await until(lambda: listener.payloads == [1, 2])

    hub.deliver("room", b'1:1:another:{"id":"x"}\n9')

    await until(lambda: listener.payloads == [1, 2, 9])
    assert listener.lost == ["room"]


async def test_a_quiet_channel_is_looked_at(hub, until, monkeypatch):
    """The last message of a burst can get lost without anything that shows it."""
    monkeypatch.setattr(continuity, "QUIET_S", 0.05)
    monkeypatch.setattr(continuity, "_LOOK_S", 0.05)
    hub._continuity.close()
    hub._continuity.start()
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])
    hub.network.lose = {2}

    await say(hub, 2)

    await until(lambda: listener.payloads == [1, 2])
    assert listener.lost == []


async def test_a_hole_waits_for_a_redis_that_cannot_be_read(hub, until, monkeypatch):
    """Nothing is passed on out of order, and nothing is given up too early."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])
    read, failed = hub.broker.read, []

    async def down(reads):
        failed.append(reads)
        raise BrokerUnavailable("down")

    monkeypatch.setattr(hub.broker, "read", down)
    hub.network.lose = {2}
    await say(hub, 2, 3)
    await until(lambda: len(failed) >= 2)
    assert listener.payloads == [1]
    monkeypatch.setattr(hub.broker, "read", read)

    await until(lambda: listener.payloads == [1, 2, 3])


async def test_too_much_behind_a_hole_is_given_up(hub, until, monkeypatch):
    """What is held is bounded; the listeners are told."""
    monkeypatch.setattr(continuity, "HELD_BYTES", 10)
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])

    async def never(reads):
        await asyncio.Event().wait()

    monkeypatch.setattr(hub.broker, "read", never)
    hub.network.lose = {2}
    await say(hub, *range(10, 30))

    await until(lambda: listener.lost == ["room"])
    await until(lambda: listener.payloads[-1] == 29)


async def test_who_is_let_in_during_a_repair_gets_everything_once(hub, until):
    """A storm of clients comes back while a hole is being read."""
    (first,) = await say(hub, 0)
    early = Listener()
    await hub.listen("room", early)
    await say(hub, 1)
    await until(lambda: early.payloads == [1])
    hub.network.lose = {2, 3}
    await say(hub, 2, 3, 4)
    late = Listener()

    async with hub.admission("room") as admission:
        await admission.prepare(first)
        past = admission.admit(late)
        late.payloads += [message.payload for message in past.missed]
    await say(hub, 5)

    await until(lambda: early.payloads == [1, 2, 3, 4, 5])
    await until(lambda: late.payloads == [1, 2, 3, 4, 5])


async def test_a_history_behind_what_was_seen_ends_its_epoch(hub, url, prefix):
    """A Redis that came back with less: its offsets are not given out twice."""
    *_, top = await say(hub, 1, 2, 3)

    (healthy,) = await hub.broker.read([Read("room", since=3, heals=top.epoch)])
    (client,) = await hub.broker.read([Read("room", since=9)])
    (healed,) = await hub.broker.read([Read("room", since=9, heals=top.epoch)])
    (after,) = await say(hub, 4)

    assert healthy.position == client.position == top
    assert healed.position.epoch != top.epoch
    assert after == Position(healed.position.epoch, 4)


@pytest.mark.may_block
def test_a_promoted_replica_begins_another_epoch(prefix):
    """A failover may have lost the last messages, and new ones may have their offsets
    before anybody looks: the epoch says that it is not the same history."""
    port = str(free_port())
    tcp = ("--port", port, "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    with RedisServer(arguments=tcp) as master, RedisServer() as replica:
        first = open_blocking(BrokerOptions(url=master.url, prefix=prefix), Metrics())
        with redis.Redis.from_url(replica.url) as admin:
            admin.execute_command("REPLICAOF", "127.0.0.1", port)
            while not _has_replica(master):
                pass
            draft = Draft("room", new_header(), b"1", KEPT)
            (before,) = first.publish([draft])
            with redis.Redis.from_url(master.url) as other:
                assert other.execute_command("WAIT", "1", "5000") == 1
            admin.execute_command("REPLICAOF", "NO", "ONE")
        second = open_blocking(BrokerOptions(url=replica.url, prefix=prefix), Metrics())

        (position,) = second.publish([draft])
        (again,) = second.publish([draft])

        assert position.epoch != before.epoch and position.offset == before.offset + 1
        assert again == Position(position.epoch, position.offset + 1)
        first.close()
        second.close()


def _has_replica(server):
    with redis.Redis.from_url(server.url) as admin:
        return admin.info("replication").get("slave0", {}).get("state") == "online"


async def test_where_a_channel_without_history_stands_is_not_read(until):
    """The settings say that there is none: a channel for each connection costs no read; if
    another process keeps one all the same, a message that is missing is still noticed."""
    metrics = Metrics()
    broker = open_broker(BrokerOptions(url="memory://"), metrics)
    hub = Hub(broker, metrics, keeps_history=lambda channel: channel == "kept")
    await hub.start()
    try:
        for channel in ("kept", *(f"plain:{number}" for number in range(20))):
            await hub.listen(channel, Listener())
        await until(lambda: metrics["history_reads"])
        assert metrics["history_reads"] == 1

        hub.deliver("plain:1", b'1:7:epoch:{"id":"x"}\n9')
        await until(lambda: metrics["holes_found"])
    finally:
        await hub.close()


async def test_a_reconnect_while_a_hole_is_read_is_not_taken_for_filled(
    hub, until, monkeypatch
):
    """What a read brings that was sent before the connection was back says nothing of what
    was missed since."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])
    read, held, go_on = hub.broker.read, asyncio.Event(), asyncio.Event()

    async def slow(reads):
        histories = await read(reads)
        held.set()
        await go_on.wait()
        return histories

    monkeypatch.setattr(hub.broker, "read", slow)
    hub.resubscribed("room")
    await held.wait()
    hub.network.lose = {2}
    await say(hub, 2)
    await until(lambda: hub.network.seen == 2)
    hub.resubscribed("room")
    go_on.set()

    await until(lambda: listener.payloads == [1, 2])
    assert not listener.lost


async def test_a_message_that_overtakes_the_look_at_a_quiet_channel_is_no_loss(
    hub, until, monkeypatch
):
    """Messages and reads come on two connections: a read that was answered before a message
    was published may arrive behind it, and then says nothing of the channel any more."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])
    read, answered, go_on = hub.broker.read, asyncio.Event(), asyncio.Event()

    async def slow(reads):
        histories = await read(reads)
        answered.set()
        await go_on.wait()
        return histories

    monkeypatch.setattr(hub.broker, "read", slow)
    monkeypatch.setattr(continuity, "QUIET_S", 0.05)
    monkeypatch.setattr(continuity, "_LOOK_S", 0.05)
    hub._continuity.close()
    hub._continuity.start()
    await answered.wait()
    await say(hub, 2)
    await until(lambda: listener.payloads == [1, 2])
    go_on.set()

    await until(lambda: not hub._continuity._tasks)
    assert not listener.lost


async def test_a_hole_that_cannot_be_read_for_an_unforeseen_reason_is_given_up(
    hub, until, monkeypatch, caplog
):
    """What Redis answers is not to be trusted: a channel must not fall silent for it."""
    listener = Listener()
    await hub.listen("room", listener)
    await say(hub, 1)
    await until(lambda: listener.payloads == [1])

    async def lying(reads):
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "an epoch that is no text")

    monkeypatch.setattr(hub.broker, "read", lying)
    hub.network.lose = {2}
    await say(hub, 2, 3)

    await until(lambda: listener.lost == ["room"])
    await say(hub, 4)
    await until(lambda: listener.payloads == [1, 3, 4])
    assert "following a channel failed" in caplog.text


async def test_where_a_new_channel_stands_is_not_learnt_while_nothing_can_arrive(
    hub, until, monkeypatch
):
    """The connection is lost as soon as the channel is heard: a message of that moment is
    in the read that says where the channel stands, and would pass for an old one."""
    read, may_read, is_read = hub.broker.read, asyncio.Event(), asyncio.Event()

    async def slow(reads):
        await may_read.wait()
        histories = await read(reads)
        is_read.set()
        return histories

    monkeypatch.setattr(hub.broker, "read", slow)
    listener = Listener()
    await hub.listen("room", listener)
    hub.network.lose = {1}
    await say(hub, 1)
    with monkeypatch.context() as lost:
        lost.setattr(type(hub.broker), "is_connected", False)
        may_read.set()
        await is_read.wait()
        await until(lambda: not hub.catch_up._tasks)

    hub.resubscribed("room")

    await until(lambda: listener.payloads == [1] or listener.lost)
