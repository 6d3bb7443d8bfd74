"""Processes that die or stand still at the worst moment. On every database."""

from __future__ import annotations

import os
import signal
import time

import pytest

from redis_pubsub import publish
from redis_pubsub.models import OutboxMessage
from redis_pubsub.models.outbox import OutboxPartition

pytestmark = pytest.mark.may_block(reason="starts and kills processes")


def end_lease(world):
    """What ten seconds do to a lease; other locks end with their connection."""
    OutboxPartition.objects.exclude(holder="").update(expires_at=0.0)


def wait_until(condition, timeout_s=15):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)


def relay_until_empty(world):
    """A dead process's lock goes when the server notices its connection's end."""

    def is_empty():
        world.relay()
        return world.waiting() == 0

    wait_until(is_empty)


def test_redis_away_during_commits(world):
    """No save raises, and everything arrives in order once Redis is back."""
    publish("room", 0)
    world.redis.kill()
    for number in range(1, 20):
        publish("room", number)
    assert world.waiting() == 19
    relay = world.agent("relay_on")
    relay.wait_for("relaying")
    world.redis.start()

    wait_until(lambda: world.waiting() == 0)

    assert world.heard() == list(range(20))


def test_killed_between_commit_and_publication(world):
    """kill -9 in the first hook after the commit: the relay publishes, once."""
    writer = world.agent("commit_and_die", words=["a", "b"])
    assert writer.wait() == -signal.SIGKILL
    assert world.waiting() == 2 and world.heard() == []

    relay_until_empty(world)

    assert world.heard() == ["a", "b"]


@pytest.mark.parametrize("times", [3])
def test_d3_a_relay_killed_between_publication_and_deletion(world, times):
    """D3: kill -9 while the rows are still there: no message gets a second offset."""
    world.agent("commit_and_die", words=list(range(40))).wait()
    for _ in range(times):
        relay = world.agent("relay_once", when="after", number=signal.SIGKILL)
        assert relay.wait() == -signal.SIGKILL
        end_lease(world)
        wait_until(lambda: is_free(world))
    publish("room", 40)

    relay_until_empty(world)

    messages = world.history()
    assert [message.payload for message in messages] == list(range(41))
    assert [message.position.offset for message in messages] == list(range(1, 42))


def is_free(world):
    from redis_pubsub.publishing.outbox.locks import hold
    from redis_pubsub.publishing.outbox.rows import partition_of

    if world.database["ENGINE"].endswith("sqlite3"):
        return True
    with hold("default", partition_of("room")) as held:
        return held is not None


def cut(world, process):
    """End a frozen process's connection to the database, as a pooler or the kernel does."""
    from django.db import connection

    if connection.vendor == "sqlite":
        end_lease(world)
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE id <> connection_id()"
            " AND db = database()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


def test_d6_a_thawed_holder_publishes_nothing(world):
    """D6: SIGSTOP with the batch in its hands, its lock gone, others went on: nothing of
    it reaches Redis afterwards."""
    world.agent("commit_and_die", words=["a", "b"]).wait()
    frozen = world.agent("relay_once", when="before", number=signal.SIGSTOP)
    frozen.wait_for("at the failpoint")
    wait_until(lambda: is_stopped(frozen))
    cut(world, frozen)
    wait_until(lambda: is_free(world))
    publish("room", "c")
    assert world.heard() == ["a", "b", "c"] and world.waiting() == 0

    frozen.send(signal.SIGCONT)
    frozen.wait()

    assert "outcomes: [FencedOff" in frozen.output
    assert world.heard() == ["a", "b", "c"]


def test_d6_the_twin_without_fencing_would_publish(world, monkeypatch):
    """The same with numbers that nobody compares: the thawed one repeats everything."""
    from redis_pubsub.broker import Fence
    from redis_pubsub.publishing.outbox.locks import Hold

    world.agent("commit_and_die", words=["a", "b"]).wait()
    frozen = world.agent("relay_once", when="before", number=signal.SIGSTOP)
    frozen.wait_for("at the failpoint")
    wait_until(lambda: is_stopped(frozen))
    cut(world, frozen)
    wait_until(lambda: is_free(world))
    elsewhere = property(lambda self: Fence("elsewhere", 1, "x"))
    monkeypatch.setattr(Hold, "fence", elsewhere)
    publish("room", "c")

    frozen.send(signal.SIGCONT)
    frozen.wait()

    assert world.heard() == ["a", "b", "c", "a", "b"]


def is_stopped(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


def test_a_holder_that_thaws_first_is_overruled(world):
    """It publishes what nobody took over yet; who has the lock then repeats nothing."""
    world.agent("commit_and_die", words=["a", "b"]).wait()
    frozen = world.agent("relay_once", when="before", number=signal.SIGSTOP)
    frozen.wait_for("at the failpoint")
    wait_until(lambda: is_stopped(frozen))
    cut(world, frozen)
    wait_until(lambda: is_free(world))
    os.kill(frozen.pid, signal.SIGCONT)
    frozen.wait()

    publish("room", "c")
    relay_until_empty(world)

    assert world.heard() == ["a", "b", "c"]
    assert OutboxMessage.objects.count() == 0
