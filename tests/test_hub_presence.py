"""Presence of one process, and of several that see each other through the broker."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid

import pytest

from redis_pubsub.broker import open_broker
from redis_pubsub.broker.presence import Counts, presence_channel
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.hub import presence as presence_module
from redis_pubsub.hub.presence import Presence
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from tests.broker.test_presence_contract import Inbox
from tests.processes import Process

QUICK = {"ttl_s": 0.4, "heartbeat_s": 0.1, "reap_s": 0.05}
"""Tests of deaths shorten the times; the others keep the defaults."""


class Store:
    """The broker's list, which a test can hold up, make fail, and count."""

    def __init__(self, store):
        self._store = store
        self.calls = []
        self.error = None
        self.reply_error = None
        self.go = asyncio.Event()
        self.go.set()

    def __getattr__(self, name):
        method = getattr(self._store, name)

        async def call(*args, **kwargs):
            self.calls.append((name, *args))
            await self.go.wait()
            if self.error:
                raise self.error
            reply = await method(*args, **kwargs)
            if self.reply_error:
                raise self.reply_error
            return reply

        return call

    @property
    def written(self):
        """The changes of each round trip so far, as ``(kind, client)``."""
        return [
            [(change.kind, change.member.client) for change in call[3]]
            for call in self.calls
            if call[0] == "write"
        ]


class Server:
    """A process: its own broker and presence."""

    def __init__(self, options, **times):
        self.name = uuid.uuid4().hex[:6]
        self.metrics = Metrics()
        self.inbox = Inbox()
        self.broker = open_broker(options, self.metrics)
        self.store = Store(self.broker.presence)
        self.presence = None
        self._times = times

    @property
    def real(self):
        """The list itself, past what the test does to `store`."""
        return self.broker.presence

    async def start(self):
        await self.broker.start(self.inbox)
        await self.broker.subscribe(presence_channel("room"))
        self.presence = Presence(
            FakeBroker(self.store), self.metrics, self.name, **self._times
        )

    async def enter(self, client, user="", channel="room", **options):
        options = {"announce": True, **options}
        info = b'"%s"' % client.encode()
        await self.presence.enter(channel, client, user, info, **options)

    def exit(self, client, channel="room", **options):
        self.presence.exit(channel, client, **options)

    async def clients(self, channel="room"):
        members = await self.broker.presence.members(channel)
        return sorted(member.client for member in members)

    async def see(self, *clients, channel="room"):
        """Wait until exactly these are listed."""
        async with asyncio.timeout(10):
            while await self.clients(channel) != sorted(clients):
                await asyncio.sleep(0.005)

    async def die(self):
        """Stop as a killed process does: nothing is written any more."""
        self.store.error = BrokerUnavailable("dead")

    async def close(self):
        await self.presence.close()
        await self.broker.close()


class FakeBroker:
    def __init__(self, presence):
        self.presence = presence


@pytest.fixture(params=["redis", "memory"])
def options(request, prefix):
    if request.param == "memory":
        return BrokerOptions(url=f"memory://{uuid.uuid4().hex}", prefix=prefix)
    return BrokerOptions(url=request.getfixturevalue("redis_server").url, prefix=prefix)


@pytest.fixture
async def start(options):
    """``await start(**times)``: one more process."""
    servers = []

    async def one(**times):
        server = Server(options, **times)
        servers.append(server)
        await server.start()
        return server

    yield one
    for server in servers:
        await server.close()


@pytest.fixture
async def server(start):
    return await start()


@pytest.fixture
async def other(start):
    return await start()


@pytest.fixture
def flush(options):
    """``await flush()``: the broker loses all its data."""

    async def forget():
        if options.url.startswith("memory:"):
            from redis_pubsub.broker.memory_store import store_of

            store_of(options.url).flush()
        else:
            import redis.asyncio

            admin = redis.asyncio.from_url(options.url)
            async for key in admin.scan_iter(f"{options.prefix}:*"):
                await admin.delete(key)
            await admin.aclose()

    return forget


async def test_who_entered_is_seen_by_all_processes(server, other):
    """At once when `enter` has returned."""
    await server.enter("a", "7")

    (member,) = await other.presence.members("room")
    assert (member.client, member.user, member.info) == ("a", "7", b'"a"')
    assert await other.presence.counts("room") == Counts(1, 1)
    assert await other.inbox.wait_for(1) == [("join", "a")]


async def test_what_happens_in_one_turn_is_one_round_trip(server):
    """A thousand clients that reconnect do not make a thousand round trips."""
    await server.enter("first")
    before = len(server.store.calls)

    await asyncio.gather(*(server.enter(f"c{n}") for n in range(100)))

    assert len(server.store.calls) == before + 1
    assert len(server.store.written[-1]) == 100


async def test_large_batches_are_cut(server):
    """No round trip is longer than 500 members."""
    await asyncio.gather(*(server.enter(f"c{n}") for n in range(1_200)))

    assert [len(changes) for changes in server.store.written] == [500, 500, 200]


async def test_who_left_is_gone(server, other):
    """exit() does not wait; others hear it."""
    await server.enter("a")
    await server.enter("b")

    server.exit("a")
    server.exit("unknown")

    assert await other.inbox.wait_for(3) == [("join", "a"), ("join", "b"), ("leave", "a")]
    assert await other.clients() == ["b"]


async def test_an_exit_while_the_enter_runs_ends_absent(server, other, until):
    """A client that goes while it comes is not left behind."""
    await server.enter("first")
    server.store.go.clear()
    entering = asyncio.create_task(server.enter("a"))
    await until(lambda: server.store.written[-1] == [("enter", "a")])

    server.exit("a")
    server.store.go.set()
    await entering

    await other.see("first")
    assert (await other.inbox.wait_for(3))[1:] == [("join", "a"), ("leave", "a")]


async def test_exit_and_enter_in_one_turn_end_present(server, other):
    """And nobody hears of it."""
    await server.enter("a")

    server.exit("a")
    await server.enter("a")
    await server.enter("last")

    assert await other.inbox.wait_for(2) == [("join", "a"), ("join", "last")]
    assert await other.clients() == ["a", "last"]


async def test_a_cancelled_enter_ends_absent(server, other, until):
    """Who was interrupted has not entered."""
    await server.enter("first")
    server.store.go.clear()
    entering = asyncio.create_task(server.enter("a"))
    await until(lambda: server.store.written[-1] == [("enter", "a")])

    entering.cancel()
    await asyncio.wait([entering])
    server.store.go.set()

    assert (await other.inbox.wait_for(3))[1:] == [("join", "a"), ("leave", "a")]
    await other.see("first")


# -- lingering -----------------------------------------------------------------


async def test_a_client_that_comes_back_in_time_never_left(server, other):
    """leave_delay_s: the member lingers."""
    await server.enter("a")

    server.exit("a", delay_s=60)
    lingering = await other.clients()
    await server.enter("a")
    await server.enter("last")

    assert lingering == ["a"]
    assert await other.inbox.wait_for(2) == [("join", "a"), ("join", "last")]


async def test_a_user_who_reloads_the_page_never_left(server, other):
    """By user, in any process: another connection in time makes both silent."""
    await server.enter("tab", "7", by_user=True)

    server.exit("tab", delay_s=0.05)
    await other.enter("tab2", "7", by_user=True)
    await other.see("tab2")
    await other.enter("last")

    assert await other.inbox.wait_for(2) == [("join", "tab"), ("join", "last")]


async def test_by_client_a_leave_is_only_late(server, other):
    """Another connection is another member."""
    await server.enter("tab", "7")

    server.exit("tab", delay_s=0.05)
    await other.enter("tab2", "7")

    assert await other.inbox.wait_for(3) == [
        ("join", "tab"),
        ("join", "tab2"),
        ("leave", "tab"),
    ]


async def test_an_exit_without_delay_ends_the_lingering(server, other):
    """And a second exit with a delay does not prolong it."""
    await server.enter("a")
    server.exit("a", delay_s=60)
    server.exit("a", delay_s=60)

    server.exit("a")

    assert await other.inbox.wait_for(2) == [("join", "a"), ("leave", "a")]


# -- a Redis that fails ----------------------------------------------------------


async def test_without_redis_nobody_enters(server, other):
    """The caller is told, and the client is no member later either."""
    server.store.error = BrokerUnavailable("down")

    with pytest.raises(BrokerUnavailable):
        await server.enter("a")
    server.store.error = None
    await server.enter("b")

    await other.see("b")
    assert server.metrics["presence_failed"] >= 1
    assert await other.inbox.wait_for(1) == [("join", "b")]


async def test_an_enter_whose_answer_was_lost_is_taken_back(server, other):
    """Redis had done it: the leave follows the join."""
    await server.enter("first")
    server.store.reply_error = BrokerUnavailable("lost")

    with pytest.raises(BrokerUnavailable):
        await server.enter("a")
    server.store.reply_error = None

    assert (await other.inbox.wait_for(3))[1:] == [("join", "a"), ("leave", "a")]
    await other.see("first")


async def test_exits_are_tried_until_they_are_done(server, other, until):
    """A leave is not lost because Redis was away."""
    await server.enter("a")
    await server.enter("b")
    server.store.error = BrokerUnavailable("down")

    server.exit("a")
    await until(lambda: server.metrics["presence_failed"] >= 2)
    server.store.error = None

    assert (await other.inbox.wait_for(3))[2:] == [("leave", "a")]
    await other.see("b")


async def test_what_a_failover_lost_comes_back(server, other, options, flush, until):
    """After any failure the members are written again, without joining again."""
    await server.enter("a")
    server.store.error = BrokerUnavailable("down")
    with pytest.raises(BrokerUnavailable):
        await server.enter("b")
    await server.real.write(f"{server.name}.1", 60, [])
    await flush()
    # The node is there again, as on a replica that lost the members only.
    await server.real.begin(f"{server.name}.1", 60)

    server.store.error = None
    await server.enter("c")

    await other.see("a", "c")
    assert await other.inbox.wait_for(2) == [("join", "a"), ("join", "c")]


async def test_after_a_flush_the_members_come_back(start, flush):
    """Within a heartbeat, all of them, and nobody joins twice."""
    server, other = await start(**QUICK), await start()
    for client in "abc":
        await server.enter(client)

    await flush()
    await other.see("a", "b", "c")
    await server.enter("last")

    joins = [("join", client) for client in ("a", "b", "c", "last")]
    assert await other.inbox.wait_for(4) == joins
    assert server.metrics["presence_rewritten"] >= 1


async def test_an_enter_that_finds_redis_empty_is_seen_with_all_others(server, flush):
    """On return the list is right, also when nobody knew of the loss."""
    await server.enter("a")
    await flush()

    await server.enter("b")

    assert await server.clients() == ["a", "b"]


async def test_a_list_that_was_lost_alone_is_written_again(start, options, flush, until):
    """The rewrite of every day, here more often."""
    server = await start(heartbeat_s=0.05, rewrite_s=0.1)
    await server.enter("a")
    await flush()
    await server.real.begin(f"{server.name}.1", 60)

    await server.see("a")


async def test_a_failure_of_ours_is_logged_and_gone_on_from(server, other, caplog):
    """The task does not die, and who waits is told."""
    server.store.error = RuntimeError("a bug")

    with pytest.raises(BrokerUnavailable, match="a bug"):
        await server.enter("a")
    server.store.error = None
    await server.enter("b")

    await other.see("b")
    assert server.metrics["presence_errors"] >= 1
    assert "a bug" in caplog.text


async def test_failed_enters_do_not_pile_up(server, other, monkeypatch):
    """Each is to be taken back, but not more than memory allows."""
    monkeypatch.setattr(presence_module, "PENDING_MOST", 10)
    await server.enter("first")
    server.store.error = BrokerUnavailable("down")

    results = await asyncio.gather(
        *(server.enter(f"c{n}") for n in range(20)), return_exceptions=True
    )
    server.store.error = None
    await server.enter("last")

    assert {type(result) for result in results} == {BrokerUnavailable}
    await other.see("first", "last")
    assert server.metrics["presence_abandoned"] == 1


async def test_a_task_that_somebody_ended_is_begun_again(server, other, until):
    """Who waited for it is told."""
    await server.enter("first")
    server.store.go.clear()
    entering = asyncio.create_task(server.enter("a"))
    await until(lambda: server.store.written[-1] == [("enter", "a")])

    (writer,) = (
        task for task in asyncio.all_tasks() if task.get_name() == "redis-pubsub-presence"
    )
    writer.cancel()
    await asyncio.wait([entering])
    server.store.go.set()
    await server.enter("b")

    assert isinstance(entering.exception(), BrokerUnavailable)
    await other.see("first", "b")


async def test_too_many_exits_are_left_to_the_reaper(start, monkeypatch, until):
    """While Redis is down memory is bounded; the leaves come all the same."""
    monkeypatch.setattr(presence_module, "PENDING_MOST", 10)
    server, other = await start(**QUICK), await start(reap_s=0.05)
    other.presence.watch()
    await asyncio.gather(*(server.enter(f"c{n:02}") for n in range(30)))
    server.store.error = BrokerUnavailable("down")

    for n in range(20):
        server.exit(f"c{n:02}")
    await until(lambda: server.metrics["presence_abandoned"])
    server.store.error = None
    await server.enter("last")

    await other.see("last", *(f"c{n:02}" for n in range(20, 30)))
    heard = await other.inbox.wait_for(51)
    leaves = sorted(who for event, who in heard if event == "leave")
    assert leaves == [f"c{n:02}" for n in range(20)]
    assert len([event for event, _ in heard if event == "join"]) == 31
    assert server.metrics["presence_abandoned"] == 1


# -- processes that die ------------------------------------------------------------


async def test_the_members_of_a_dead_process_leave(start, until):
    """Another process announces it, whether or not it has members itself."""
    server, other = await start(**QUICK), await start(**QUICK)
    other.presence.watch()
    await server.enter("a")
    await server.enter("b", channel="elsewhere")

    await server.die()

    assert await other.inbox.wait_for(2) == [("join", "a"), ("leave", "a")]
    await other.see(channel="elsewhere")
    await until(lambda: other.metrics["presence_reaped"] == 2)


async def test_a_process_that_was_taken_for_dead_joins_again(start):
    """Others heard its members leave: so they hear them come back."""
    server, other = await start(**QUICK), await start(**QUICK)
    other.presence.watch()
    await server.enter("a")
    await server.enter("gone")
    await server.die()
    await other.inbox.wait_for(4)

    server.exit("gone", delay_s=60)
    server.store.error = None

    await other.see("a")
    events = await other.inbox.wait_for(5)
    assert sorted(events[2:4]) == [("leave", "a"), ("leave", "gone")]
    assert events[4:] == [("join", "a")]


CHILD = """
import asyncio, json, sys
from redis_pubsub.broker import open_broker
from redis_pubsub.hub.presence import Presence
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions

async def main(url, prefix, times):
    broker = open_broker(BrokerOptions(url=url, prefix=prefix), Metrics())
    presence = Presence(broker, Metrics(), "child", **times)
    await asyncio.gather(*(
        presence.enter("room", f"c{n}", "7", b'"c%d"' % n, announce=True) for n in range(3)
    ))
    print("entered", flush=True)
    await asyncio.sleep(600)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


async def test_a_killed_process_leaves(redis_server, prefix):
    """kill -9: another process publishes the leaves, and the members are gone."""
    other = Server(BrokerOptions(url=redis_server.url, prefix=prefix), **QUICK)
    await other.start()
    other.presence.watch()
    arguments = json.dumps([redis_server.url, prefix, QUICK])

    with await asyncio.to_thread(Process, "-c", CHILD, arguments, env={}) as child:
        await asyncio.to_thread(child.wait_for, "entered")
        await other.see("c0", "c1", "c2")
        child.send(signal.SIGKILL)
        heard = await other.inbox.wait_for(6)
        await asyncio.to_thread(child.wait)

    assert sorted(heard[3:]) == [("leave", "c0"), ("leave", "c1"), ("leave", "c2")]
    assert await other.clients() == []
    await other.close()


# -- the end -----------------------------------------------------------------------


async def test_a_process_that_stops_takes_its_members_out(server, other):
    """At once, in round trips of 500, whatever channel they are on."""
    await asyncio.gather(*(server.enter(f"c{n}") for n in range(700)))
    await server.enter("x", channel="elsewhere")

    await server.presence.close()

    assert await other.clients() == [] and await other.clients("elsewhere") == []
    assert [len(changes) for changes in server.store.written[-2:]] == [500, 201]
    heard = await other.inbox.wait_for(1_400)
    assert sum(event == "leave" for event, _ in heard) == 700


async def test_members_that_linger_are_left_to_others(start):
    """A deploy is as silent as a reload: the delay goes on after the process has gone."""
    server, other = await start(), await start(reap_s=0.05)
    other.presence.watch()
    for user in ("7", "8"):
        await server.enter(f"old{user}", user, by_user=True)
        server.exit(f"old{user}", delay_s=0.5)

    await server.presence.close()
    await other.enter("new7", "7", by_user=True)

    heard = await other.inbox.wait_for(3)
    assert heard == [("join", "old7"), ("join", "old8"), ("leave", "old8")]
    await other.see("new7")


async def test_nothing_enters_a_process_that_stops(server, other, until):
    """Whoever waits is told; whoever comes later too."""
    await server.enter("first")
    server.store.go.clear()
    running = asyncio.create_task(server.enter("a"))
    await until(lambda: server.store.written[-1] == [("enter", "a")])
    waiting = asyncio.create_task(server.enter("b"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(server.presence.close())
    await asyncio.sleep(0)

    with pytest.raises(BrokerUnavailable):
        await server.enter("c")
    server.store.go.set()
    await closing

    await asyncio.gather(running, waiting, return_exceptions=True)
    assert running.exception() is None
    assert isinstance(waiting.exception(), BrokerUnavailable)
    assert await other.clients() == []
    await server.presence.close()


async def test_a_process_that_cannot_say_goodbye_is_found(start, caplog):
    """close() ends without Redis, and says so."""
    server, other = await start(**QUICK), await start(**QUICK)
    other.presence.watch()
    await server.enter("a")
    await server.die()

    await server.presence.close()

    assert "left to be found" in caplog.text
    assert await other.inbox.wait_for(2) == [("join", "a"), ("leave", "a")]


async def test_channels_are_forgotten_with_their_last_member(redis_server, prefix):
    """A long life does not fill the node's list of channels; nothing stays at the end."""
    import redis.asyncio

    server = Server(BrokerOptions(url=redis_server.url, prefix=prefix), heartbeat_s=0.02)
    await server.start()
    admin = redis.asyncio.from_url(redis_server.url)
    listed = f"{prefix}:node:{{{server.name}.1}}:channels"
    for n in range(5):
        await server.enter("a", channel=f"room{n}")
    await server.enter("b", channel="room4")

    for n in range(5):
        server.exit("a", channel=f"room{n}")

    async with asyncio.timeout(5):
        while await admin.smembers(listed) != {b"room4"}:
            await asyncio.sleep(0.005)
    await server.close()
    assert [key async for key in admin.scan_iter(f"{prefix}:*")] == []
    await admin.aclose()
