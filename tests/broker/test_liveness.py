"""The clocks of the pub/sub connection, without time; then with servers that stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess

import pytest
import redis.asyncio

from redis_pubsub.broker import Read, open_broker
from redis_pubsub.broker.dialing import connect
from redis_pubsub.broker.liveness import SILENT_INTERVALS, Act, Liveness
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from redis_pubsub.testing import RedisServer
from redis_pubsub.testing.server import find_redis_server

from .proxy import Proxy
from .test_contract import Inbox, draft


def liveness(now: float = 0.0) -> Liveness:
    """Two seconds, no jitter, a connection that is new."""
    clocks = Liveness(2.0, chance=lambda: 0.0)
    clocks.began(now)
    return clocks


def test_nothing_is_probed_while_messages_flow():
    """A message that arrived in time saves the probe."""
    clocks = liveness()

    for now in range(1, 100):
        assert clocks.step(now).act is Act.WAIT
        clocks.proved(now)


def test_a_silence_is_probed_and_an_echo_ends_it():
    """Two seconds of nothing: a probe; its echo starts the silence anew."""
    clocks = liveness()
    assert clocks.step(1.5).act is Act.WAIT and clocks.step(1.5).wait_s == 0.5

    assert clocks.step(2.0).act is Act.PROBE
    clocks.published(clocks.probe)
    clocks.proved(2.1)

    assert clocks.step(4.0).act is Act.WAIT
    assert clocks.step(4.1).act is Act.PROBE
    assert clocks.heard_at == 2.1


@pytest.mark.parametrize("is_published", [True, False])
def test_a_probe_without_echo_ends_the_connection(is_published):
    """Within two intervals, so before anybody is told not to rely on it; and it is known
    whether Redis took the probe."""
    clocks = liveness()
    clocks.step(2.0)
    if is_published:
        clocks.published(clocks.probe)
    assert clocks.step(3.9).act is Act.WAIT

    step = clocks.step(4.0)

    assert step.act is Act.ABORT and step.is_down is not is_published
    assert SILENT_INTERVALS * 2.0 > 4.0


def test_connections_are_made_anew_ever_more_rarely():
    """A server whose new connections stay mute is not hammered: the pauses double up to
    ten intervals, while probes go on, so that healing is seen at once."""
    clocks, aborts, now = liveness(), [], 0.0
    while now < 200:
        step = clocks.step(now)
        if step.act is Act.ABORT:
            aborts.append(now)
            clocks.began(now)
        assert step.wait_s <= 2.0
        now += step.wait_s

    pauses = [after - before for before, after in itertools.pairwise(aborts)]
    assert pauses[:3] == [4.0, 8.0, 16.0] and set(pauses[3:]) == {20.0}


def test_confirmations_alone_do_not_end_the_backoff():
    """That a new connection answers SUBSCRIBE says nothing about messages."""
    clocks = liveness()
    for now in (2.0, 4.0):
        clocks.step(now)
    clocks.heard(4.5)
    assert [clocks.step(now).act for now in (6.5, 8.5)] == [Act.PROBE, Act.ABORT]
    clocks.heard(9.0)
    assert [clocks.step(now).act for now in (11.0, 13.0)] == [Act.PROBE, Act.PROBE]

    clocks.proved(13.1)

    assert [clocks.step(now).act for now in (15.1, 17.1)] == [Act.PROBE, Act.ABORT]


def test_an_answer_without_the_echo_ends_the_connection_at_once():
    """What was asked after Redis took the probe is answered, the probe is not there: there
    is nothing to wait for."""
    clocks = liveness()
    clocks.step(2.0)
    clocks.published(clocks.probe)

    clocks.heard(2.1)
    clocks.passed_by()

    step = clocks.step(2.1)
    assert step.act is Act.ABORT and not step.is_down


def test_an_answer_after_the_echo_says_nothing():
    """The usual case, and that of an answer to a question of the probe before."""
    clocks = liveness()
    clocks.step(2.0)
    clocks.published(clocks.probe)
    clocks.proved(2.1)
    clocks.passed_by()
    assert clocks.step(4.1).act is Act.PROBE

    clocks.published(clocks.probe - 1)
    clocks.passed_by()

    assert clocks.step(4.2).act is Act.WAIT


def test_answers_give_a_probe_time_and_do_not_replace_it():
    """Clients that come and go make Redis answer all the time: the probe is sent when it is
    due, and waited for as long as Redis speaks."""
    clocks = liveness()
    for now in (0.5, 1.0, 1.5):
        clocks.heard(now)
    assert clocks.step(2.0).act is Act.PROBE

    clocks.heard(3.5)

    assert clocks.step(4.0).act is Act.WAIT
    assert clocks.step(5.5).act is Act.ABORT


def test_a_probe_that_redis_does_not_take_is_tried_again_while_it_answers():
    """The connection is not to blame for a pool that is used up."""
    clocks = liveness()
    clocks.step(2.0)
    clocks.refused(clocks.probe)

    clocks.heard(2.5)

    assert clocks.step(4.0).act is Act.WAIT
    assert clocks.step(4.5).act is Act.PROBE


def test_probes_that_are_passed_by_again_and_again_do_not_come_faster():
    """Behind something that lets no message through the verdict is there at once, each
    time: the pauses between probes stay."""
    clocks, probes, now = liveness(), [], 0.0
    while now < 100:
        step = clocks.step(now)
        if step.act is Act.PROBE:
            probes.append(now)
            clocks.published(clocks.probe)
            clocks.passed_by()
        else:
            now += step.wait_s

    assert min(after - before for before, after in itertools.pairwise(probes)) >= 2.0


def test_a_process_that_stood_still_does_not_blame_redis():
    """The echo may wait unread: a probe gets the time back that the loop was blocked."""
    clocks = liveness()
    assert clocks.step(2.0).wait_s == 2.0

    step = clocks.step(30.0)

    assert step.act is Act.WAIT and step.wait_s == 2.0
    assert clocks.step(32.0).act is Act.ABORT


def test_processes_do_not_probe_in_step():
    """Up to a quarter of the interval is left out by chance."""
    clocks = Liveness(2.0, chance=lambda: 1.0)
    clocks.began(0.0)

    assert clocks.step(1.4).act is Act.WAIT
    assert clocks.step(1.5).act is Act.PROBE


@pytest.fixture
def own_server():
    with RedisServer(arguments=debug_arguments()) as server:
        yield server


def debug_arguments() -> tuple[str, ...]:
    """From version 7 on DEBUG has to be allowed, which 6 would not understand."""
    executable = find_redis_server()
    said = subprocess.run([executable or "", "--version"], capture_output=True, text=True)
    version = re.search(r"v=(\d+)", said.stdout)
    is_old = version is None or int(version[1]) < 7
    return () if is_old else ("--enable-debug-command", "yes")


@pytest.fixture
async def listening():
    """Start a broker that listens to ``news`` and probes after a short silence."""
    brokers = []

    async def start(url, probe_s=0.2):
        inbox, metrics = Inbox(), Metrics()
        options = BrokerOptions(url=url, probe_s=probe_s, connect_timeout_s=0.3)
        broker = open_broker(options, metrics)
        brokers.append(broker)
        await broker.start(inbox)
        await broker.subscribe("news")
        return broker, inbox, metrics

    yield start
    for broker in brokers:
        await broker.close()


async def test_a_quiet_connection_stays(own_server, listening, until):
    """Many silences, many probes, one connection; and no sink sees a probe."""
    broker, inbox, metrics = await listening(own_server.url, probe_s=0.5)

    await until(lambda: metrics["probes_sent"] >= 4)

    assert metrics["redis_connections_lost"] == 0
    assert inbox.again == [] and inbox.messages == []
    assert broker.silent_s < 1


async def test_a_stopped_redis_is_noticed_and_healed(own_server, listening, until):
    """SIGSTOP: the silence grows, the connection is ended; SIGCONT: listeners are told,
    and messages arrive."""
    broker, inbox, metrics = await listening(own_server.url)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        await until(lambda: metrics["probes_failed"] == 1 and not broker.is_connected)
        await until(lambda: broker.silent_s > 1)
        assert not broker.is_connected
    finally:
        os.kill(own_server.pid, signal.SIGCONT)

    await until(lambda: inbox.again == ["news"])
    await broker.publish([draft(1)])

    assert [m.payload for m in await inbox.wait_for(1)] == [1]
    await until(lambda: broker.silent_s < 0.1)


async def test_without_probes_a_stopped_redis_goes_unnoticed(own_server, listening):
    """The twin of the test above: it is the probe that notices."""
    broker, _, metrics = await listening(own_server.url, probe_s=60)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(1)
        assert broker.is_connected and metrics["redis_connections_lost"] == 0
    finally:
        os.kill(own_server.pid, signal.SIGCONT)


async def test_a_connection_that_is_accepted_and_never_answered_is_given_up(own_server):
    """A server that stands still accepts connections: that is no reason to wait."""
    async with Proxy(str(own_server.path)) as proxy:
        proxy.hang()
        pool = redis.asyncio.ConnectionPool.from_url(
            proxy.url, socket_connect_timeout=0.2, socket_timeout=None
        )

        async with asyncio.timeout(5):
            with pytest.raises(redis.exceptions.RedisError):
                await connect(pool.make_connection(), 0.2)


async def test_a_sleeping_redis_is_noticed(own_server, listening, until):
    """DEBUG SLEEP: the server's process runs and answers nobody."""
    _, inbox, metrics = await listening(own_server.url)
    admin = redis.asyncio.from_url(own_server.url)

    sleep = asyncio.create_task(admin.execute_command("DEBUG", "SLEEP", "1.5"))
    await until(lambda: metrics["probes_failed"] >= 1)
    await sleep

    await until(lambda: inbox.again == ["news"])
    await admin.aclose()


async def test_a_connection_that_nothing_comes_through_is_noticed(
    own_server, listening, until
):
    """A network that swallows everything: no error anywhere, and new connections are
    accepted and as mute; when it heals, so does the broker."""
    async with Proxy(str(own_server.path)) as proxy:
        broker, inbox, metrics = await listening(proxy.url)

        proxy.hang()
        await until(lambda: not broker.is_connected)
        assert metrics["probes_failed"] == 1
        proxy.heal()

        await until(lambda: inbox.again == ["news"])
        await broker.publish([draft(1)])
        assert [m.payload for m in await inbox.wait_for(1)] == [1]


async def test_a_connection_that_alone_went_mute_is_noticed(own_server, listening, until):
    """Redis takes messages and the pub/sub connection brings none: as after a failover
    that left it behind."""
    async with Proxy(str(own_server.path)) as proxy:
        broker, inbox, metrics = await listening(proxy.url)

        proxy.mute_subscribers()
        await until(lambda: inbox.again == ["news"])

        assert metrics["probes_unanswered"] == 1 and metrics["probes_failed"] == 0
        await broker.publish([draft(1)])
        assert [m.payload for m in await inbox.wait_for(1)] == [1]


async def test_an_answer_that_nobody_waits_for_any_more_is_nobody_elses(
    own_server, listening
):
    """Reads that were given up while their answers were under way, at every moment: what
    comes late is never taken for the answer to another question."""
    async with Proxy(str(own_server.path)) as proxy:
        broker, _, _ = await listening(proxy.url)
        for n in range(20):
            await broker.publish([draft(n, f"room{n}")])

        for n in range(40):
            wish = Read(f"room{n % 20}", since=0, limit=10)
            asked = asyncio.create_task(broker.read([wish]))
            proxy.hang()
            for _ in range(n % 8):
                await asyncio.sleep(0)
            asked.cancel()
            proxy.heal()
            other = (n + 7) % 20
            (found,) = await broker.read([Read(f"room{other}", since=0, limit=10)])
            assert [message.payload for message in found.messages] == [other]
            await asyncio.gather(asked, return_exceptions=True)


async def test_a_server_that_was_left_behind_is_noticed(
    own_server, redis_server, listening, until
):
    """It lives, answers each SUBSCRIBE, and nobody publishes there any more; however many
    clients come and go meanwhile."""
    async with Proxy(str(own_server.path)) as proxy:
        broker, inbox, metrics = await listening(proxy.url, probe_s=1.0)
        proxy.leave_behind(str(redis_server.path))
        coming = asyncio.create_task(_come_and_go(broker))

        await until(lambda: "news" in inbox.again)

        coming.cancel()
        assert metrics["probes_unanswered"] == 1 and metrics["probes_failed"] == 0
        await broker.publish([draft(1)])
        assert [m.payload for m in await inbox.wait_for(1)] == [1]


async def _come_and_go(broker):
    while True:
        await broker.subscribe("visit")
        await broker.unsubscribe("visit")
        await asyncio.sleep(0.02)


async def test_a_pause_of_our_own_is_no_silence(own_server, listening, until):
    """A broker that was asked to pause reads nothing, and blames nobody."""
    broker, inbox, metrics = await listening(own_server.url)
    broker.pause()

    await until(lambda: broker.silent_s > 1)
    broker.resume()
    await until(lambda: broker.silent_s < 0.1)

    assert metrics["redis_connections_lost"] == 0 and inbox.again == []


async def test_closing_does_not_wait_for_a_server_that_stopped(own_server, listening):
    """Neither the connection nor a probe that is on its way keeps a process alive."""
    broker, _, metrics = await listening(own_server.url)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            while metrics["probes_sent"] == 0:
                await asyncio.sleep(0.01)
            await broker.close()
    finally:
        os.kill(own_server.pid, signal.SIGCONT)


async def test_a_probe_survives_a_pooled_connection_that_was_reset(
    own_server, redis_server, listening, until
):
    """After a failover the connections for commands are dead as well, and the first one
    that is used says so: that is no reason to wait for another interval."""
    async with Proxy(str(own_server.path)) as proxy:
        broker, inbox, metrics = await listening(proxy.url, probe_s=1.0)
        await broker.publish([draft(1)])
        proxy.leave_behind(str(redis_server.path), reset=True)

        await until(lambda: "news" in inbox.again)

        assert metrics["probes_unanswered"] == 1 and metrics["probes_failed"] == 0
