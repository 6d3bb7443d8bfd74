"""What only a real Redis can do to us."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
import redis.asyncio

from redis_pubsub.broker import Read, open_blocking, open_broker, subscriber
from redis_pubsub.messages import Draft, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from redis_pubsub.testing import RedisServer

from .test_contract import Inbox, draft


@pytest.fixture
async def options(redis_server, prefix):
    return BrokerOptions(url=redis_server.url, prefix=prefix)


async def test_a_killed_connection_comes_back_and_is_told(options, until):
    """B5: after CLIENT KILL everything wanted is wanted again, and each channel is
    reported, since messages may have been missed."""
    inbox, metrics = Inbox(), Metrics()
    broker = open_broker(options, metrics)
    await broker.start(inbox)
    await broker.subscribe("a")
    await broker.subscribe("b")
    admin = redis.asyncio.from_url(options.url)

    await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: set(inbox.again) == {"a", "b"})
    await broker.publish([draft(1, "a"), draft(2, "b")])

    await inbox.wait_for(2)
    assert sorted(inbox.payloads) == [1, 2]
    await broker.close()
    await admin.aclose()


@pytest.mark.may_block(reason="starts and stops a server process in between")
async def test_a_restarted_redis_is_a_new_epoch(prefix, until):
    """P-18: a Redis that lost its data is noticed by its epoch, never guessed; the scripts
    it forgot are loaded again."""
    with RedisServer() as server:
        options = BrokerOptions(url=server.url, prefix=prefix)
        inbox = Inbox()
        broker = open_broker(options, Metrics())
        blocking = open_blocking(options, Metrics())
        await broker.start(inbox)
        await broker.subscribe("news")
        (before,) = await broker.publish([draft(1)])
        blocking.publish([draft(2)])
        await inbox.wait_for(2)

        server.kill()
        await until(lambda: not broker.is_connected)
        server.start()
        await until(lambda: inbox.again == ["news"], 10)
        (after,) = blocking.publish([draft(3)])

        await inbox.wait_for(3)
        assert after.offset == 1 and after.epoch != before.epoch
        await broker.close()
        blocking.close()


@pytest.fixture
def own_server():
    """A Redis that nobody else is connected to."""
    with RedisServer() as server:
        yield server


async def test_one_process_has_one_pubsub_connection(own_server, prefix):
    """B1: however many channels, Redis sees one subscriber; it asked for one channel more,
    for its probes."""
    broker = open_broker(BrokerOptions(url=own_server.url, prefix=prefix), Metrics())
    await broker.start(Inbox())
    admin = redis.asyncio.from_url(own_server.url)

    await asyncio.gather(*(broker.subscribe(f"channel-{n}") for n in range(1_500)))

    (client,) = await admin.client_list(_type="pubsub")
    assert int(client["sub"]) == 1_501
    await broker.close()
    await admin.aclose()


async def test_a_lost_meta_key_never_mixes_two_histories(options):
    """When Redis evicted the position and kept the stream, the stream begins anew."""
    broker = open_broker(options, Metrics())
    await broker.publish([draft(n) for n in range(3)])
    admin = redis.asyncio.from_url(options.url)
    await admin.delete(f"{options.prefix}:{{news}}:meta")

    await broker.publish([draft("9")])

    history = (await broker.read([Read("news")]))[0]
    assert [m.payload for m in history.messages] == [9]
    assert history.position.offset == 1
    await broker.close()
    await admin.aclose()


async def test_a_published_batch_is_one_round_trip(options):
    """W-10: a hundred messages, one write to Redis and one read back."""
    blocking = open_blocking(options, Metrics())
    await asyncio.to_thread(blocking.publish, [draft(0)])
    admin = redis.asyncio.from_url(options.url)
    before = (await admin.info("stats"))["total_reads_processed"]

    await asyncio.to_thread(blocking.publish, [draft(n) for n in range(100)])

    after = (await admin.info("stats"))["total_reads_processed"]
    # Redis reads 16 KiB at a time; one by one it would be a hundred reads and more.
    assert after - before < 20
    await asyncio.to_thread(blocking.close)
    await admin.aclose()


async def test_keys_expire(options):
    """Nothing stays in Redis for ever: streams by their option, positions after 30 days."""
    broker = open_broker(options, Metrics())
    await broker.publish([draft(1, version=1, model="m", pk="1")])
    admin = redis.asyncio.from_url(options.url)

    ttl = {
        part: await admin.ttl(f"{options.prefix}:{{news}}:{part}")
        for part in ("stream", "meta", "versions")
    }

    assert 0 < ttl["stream"] <= 60
    assert 60 < ttl["meta"] <= 30 * 24 * 3600 and ttl["versions"] > 60
    await broker.close()
    await admin.aclose()


def test_versions_of_rows_do_not_grow_for_ever(redis_server, prefix):
    """Of a channel, the rows that changed last are remembered: 5,000 at least, never more
    than twice as many."""
    broker = open_blocking(BrokerOptions(url=redis_server.url, prefix=prefix), Metrics())

    def publish(first, last, version):
        drafts = [
            Draft("rows", new_header(model="a.b", pk=str(n)), b"1", version=version)
            for n in range(first, last)
        ]
        positions = []
        for begin in range(0, len(drafts), 1_000):
            positions += broker.publish(drafts[begin : begin + 1_000])
        return positions

    publish(0, 12_000, version=2)

    kept = [
        broker._redis.hlen(f"{prefix}:{{rows}}:{key}")
        for key in ("versions", "versions-before")
    ]
    assert 5_000 <= sum(kept) <= 10_000
    assert publish(7_000, 12_000, version=1) == [None] * 5_000
    assert None not in publish(0, 10, version=1)
    broker.close()


async def test_a_connection_that_ends_at_once_is_made_anew_ever_more_slowly(
    own_server, prefix, monkeypatch, until
):
    """R12: a user who may connect and not subscribe is no reason to knock twenty times a
    second for ever."""
    admin = redis.asyncio.from_url(own_server.url)
    await admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
    longest = []

    def uniform(least, most):
        longest.append(most)
        return 0

    monkeypatch.setattr(subscriber, "random", SimpleNamespace(uniform=uniform))
    broker = open_broker(BrokerOptions(url=own_server.url, prefix=prefix), Metrics())
    await broker.start(Inbox())

    await until(lambda: len(longest) >= 7)
    await broker.close()
    await admin.aclose()

    assert longest[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


async def test_closing_ends_although_the_client_swallows_a_cancellation(
    options, monkeypatch
):
    """As redis-py does where a connection comes about at the moment it is cancelled."""
    connecting = asyncio.Event()

    async def swallow(connection, timeout_s):
        connecting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(subscriber, "connect", swallow)
    broker = open_broker(options, Metrics())
    await broker.start(Inbox())
    await connecting.wait()

    closing = asyncio.ensure_future(broker.close())
    _, late = await asyncio.wait([closing], timeout=5)
    if late:
        broker.subscriber._task.cancel()
    assert not late


async def test_a_redis_that_never_was_there_is_told_once_and_how_to_go_on(
    prefix, caplog, until, unused_tcp_port
):
    """Not that a connection is gone, and not twenty times."""
    options = BrokerOptions(url=f"redis://127.0.0.1:{unused_tcp_port}", prefix=prefix)
    metrics = Metrics()
    broker = open_broker(options, metrics)
    await broker.start(Inbox())

    await until(lambda: metrics["redis_connections_lost"] >= 3)
    await broker.close()

    (told,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "cannot be reached" in told and "memory://" in told
