"""Publishing a partition: in order, once, whatever happened before. On every database."""

from __future__ import annotations

import dataclasses

import pytest
from django.db import OperationalError, connections, transaction
from django.db.utils import ConnectionHandler

from redis_pubsub import publish
from redis_pubsub.broker import Fence
from redis_pubsub.models import OutboxMessage
from redis_pubsub.models.outbox import OutboxPartition
from redis_pubsub.options import ChannelOptions
from redis_pubsub.publishing.outbox import deliver, locks, rows
from redis_pubsub.publishing.outbox import drain as drains
from redis_pubsub.publishing.outbox.rows import partition_of, waiting_partitions
from redis_pubsub.publishing.publisher import publisher
from tests.migrations.conftest import as_default

PARTITION = partition_of("room")


@pytest.fixture
def kept(world, monkeypatch):
    """Write messages that nobody publishes yet."""

    def keep(*words, channel="room"):
        with monkeypatch.context() as patch:
            patch.setattr("redis_pubsub.publishing.transactions.deliver", lambda *_: None)
            with transaction.atomic():
                for word in words:
                    publish(channel, word)

    return keep


@pytest.fixture
def second(world):
    """A second connection to the same database, as another process has."""
    other = ConnectionHandler({"default": world.database})["default"]
    yield other
    other.close()


def in_second(other, function, *args):
    ours = connections["default"]
    connections["default"] = other
    try:
        return function(*args)
    finally:
        connections["default"] = ours


def test_a_backlog_goes_out_in_order_and_in_batches(world, kept, counted, monkeypatch):
    """More than a batch; later commits wait behind it."""
    monkeypatch.setattr(rows, "BATCH", 50)
    monkeypatch.setattr(deliver, "COMMIT_S", 30)
    kept(*range(140))

    publish("room", 140)

    assert world.heard() == list(range(141))
    assert counted("outbox_published") == 141 and world.waiting() == 0


def test_large_payloads_make_small_batches(world, kept, monkeypatch):
    """Memory holds about 4 MiB of payloads, however many rows wait."""
    monkeypatch.setattr(rows, "BATCH_BYTES", 1_000)
    kept(*["x" * 400] * 10)

    batch = rows.read_batch("default", PARTITION, is_backlog=True)
    world.relay()

    assert len(batch) == 2 and len(world.history()) == 10


def test_d1_a_row_that_commits_late_is_not_skipped(world, second):
    """D1: commit order is not id order, and nothing is read behind a cursor."""
    if world.database["ENGINE"].endswith("sqlite3"):
        pytest.skip("has one writer at a time, so ids are committed in order")
    early = transaction.atomic()
    early.__enter__()
    publish("room", "lower id")
    in_second(second, publish, "room", "higher id")
    assert world.heard() == ["higher id"]

    early.__exit__(None, None, None)

    assert world.heard() == ["higher id", "lower id"] and world.waiting() == 0


def test_d7_nothing_overtakes(world, kept):
    """D7: what Redis missed goes first."""
    world.redis.kill()
    publish("room", 1)
    publish("room", 2)
    world.redis.start()
    publisher.close()

    publish("room", 3)

    assert world.heard() == [1, 2, 3]


def test_a_taken_partition_is_left_and_its_holder_looks_again(world, kept, second):
    """Who commits meanwhile waits for nobody; the holder publishes for him."""
    kept("a")
    broker = publisher.broker()
    publish_fenced = broker.publish_fenced

    def meanwhile(drafts, fence):
        outcomes = publish_fenced(drafts, fence)
        is_first = drafts[0][1].raw == b'"a"'
        if is_first and world.database["ENGINE"].endswith("sqlite3"):
            publish("room", "b")
        elif is_first:
            in_second(second, publish, "room", "b")
            assert world.heard() == ["a"]
        return outcomes

    broker.publish_fenced = meanwhile
    world.relay()
    del broker.publish_fenced

    assert world.heard() == ["a", "b"] and world.waiting() == 0


def test_one_at_a_time_has_a_partition(world, second):
    """Tried once, never waited for; the next number is higher."""
    with locks.hold("default", 3) as held:
        assert held is not None
        assert in_second(second, _is_free, 3) is False
        assert in_second(second, _is_free, 4) is True
        first = held.fence.number
    with locks.hold("default", 3) as held:
        assert held.fence.number == first + 1


def _is_free(partition):
    with locks.hold("default", partition) as held:
        return held is not None


def test_an_unknown_outcome_is_looked_for(world, kept, counted, monkeypatch):
    """Redis took the messages and the answer was lost: no second offset."""
    kept("a", "b")
    broker = publisher.broker()
    publish_fenced = broker.publish_fenced

    def cut(*args):
        publish_fenced(*args)
        raise locks.LockLost("cut")

    broker.publish_fenced = cut
    world.relay()
    del broker.publish_fenced
    assert world.waiting() == 2
    kept("c")

    world.relay()

    assert world.heard() == ["a", "b", "c"] and world.waiting() == 0
    assert counted("outbox_found") == 2


def test_without_the_look_it_would_be_there_twice(world, kept, monkeypatch):
    """The twin: a broker that does not know what the outbox sent before."""
    kept("a")
    broker = publisher.broker()
    publish_fenced = broker.publish_fenced
    numbers = iter(range(1, 100))

    def blind(drafts, fence):
        publish_fenced(drafts, Fence(f"x{next(numbers)}", 1, ""))
        raise locks.LockLost("cut")

    broker.publish_fenced = blind
    world.relay()
    world.relay()
    del broker.publish_fenced

    assert world.heard() == ["a", "a"]


def test_a_database_that_is_older_than_redis_catches_up(world, kept, counted):
    """Restored from a backup, its numbers are too low: it climbs, and nothing is lost."""
    kept("a")
    world.relay()
    publisher.broker().publish_fenced(
        [(1_000_000, _draft("z"))], Fence("default", 500, "lost")
    )
    kept("b", "c")

    world.relay()

    assert world.heard() == ["a", "z", "b", "c"]
    assert OutboxPartition.objects.get(pk=PARTITION).fence >= 501
    assert counted("outbox_fenced_off") == 1
    kept("d")
    world.relay()
    assert counted("outbox_fenced_off") == 1


def _draft(word):
    from redis_pubsub.conf import get_config
    from redis_pubsub.publishing.drafts import drafts_of

    return drafts_of(get_config(), ["room"], word)[0]


def test_what_cannot_be_sent_is_parked_at_once(world, kept, settings, counted, caplog):
    """Too large for the setting as it is now, or unreadable: its channel goes on."""
    kept("small", "x" * 200, "y")
    OutboxMessage.objects.filter(message_id=_id("y")).update(header=b"{")
    kept("last")
    settings.REDIS_PUBSUB = world.setting | {"limits": {"message_bytes": 100}}

    world.relay()

    assert world.heard() == ["small", "last"] and counted("outbox_parked") == 2
    errors = OutboxMessage.objects.filter(parked=True).values_list("last_error", flat=True)
    assert any("the limit is 100" in error for error in errors)
    assert any("header" in error for error in errors)
    assert world.waiting() == 0

    settings.REDIS_PUBSUB = world.setting
    assert OutboxMessage.objects.filter(last_error__contains="limit").retry() == 1
    world.relay()
    assert world.heard() == ["small", "last", "x" * 200]


def _id(word):
    return next(
        row.message_id
        for row in OutboxMessage.objects.all()
        if row.draft().raw == f'"{word}"'.encode()
    )


def test_a_message_that_redis_refuses_is_parked_in_the_end(
    world, kept, counted, monkeypatch
):
    """Five attempts; other channels of its partition go on, its own waits meanwhile."""
    monkeypatch.setattr(drains, "RETRY_FIRST_S", 0.0)
    same = next(f"c{n}" for n in range(999) if partition_of(f"c{n}") == PARTITION)
    repair = spoil(world)
    kept(1, 2)
    kept("other", channel=same)

    world.relay()
    assert world.heard(same) == ["other"] and world.waiting() == 2
    for _ in range(2 * drains.ATTEMPTS):
        world.relay()

    rows = OutboxMessage.objects.filter(parked=True)
    assert [row.attempts for row in rows] == [drains.ATTEMPTS] * 2
    assert "wrong kind" in rows[0].last_error and world.waiting() == 0
    assert counted("outbox_refused") == 2 * drains.ATTEMPTS
    assert counted("outbox_parked") == 2
    repair()
    publish("room", 3)
    assert world.heard() == [3]


def spoil(world):
    """Redis refuses every message of the channel from now on; gives what heals it."""
    publish("room", 0)
    client = publisher.broker()._redis
    key = f"{world.setting['prefix']}:{{room}}:stream"
    client.set(key, "no stream")
    return lambda: client.delete(key)


def test_a_refused_message_is_not_passed(world, kept, monkeypatch):
    """While it may still go out, what is behind it waits, and then follows in order."""
    repair = spoil(world)
    kept(1)
    world.relay()
    repair()

    publish("room", 2)
    assert world.heard() == []
    monkeypatch.setattr(drains, "RETRY_FIRST_S", 0.0)
    world.relay()

    assert world.heard() == [1, 2]


def test_what_stands_behind_a_refused_message_waits_until_that_is_parked(
    world, kept, counted, monkeypatch
):
    """In one batch too, where Redis would have taken it; they have not been tried."""
    draft_of = OutboxMessage.draft

    def spoilt(row):
        draft = draft_of(row)
        if draft.raw != b'"refused"':
            return draft
        options = ChannelOptions(history_size="no number")
        return dataclasses.replace(draft, options=options)

    monkeypatch.setattr(OutboxMessage, "draft", spoilt)
    kept("a", "refused", "b", "c")

    world.relay()
    assert world.heard() == ["a"]
    left = OutboxMessage.objects.order_by("id")
    assert list(left.values_list("attempts", flat=True)) == [1, 0, 0]
    monkeypatch.setattr(drains, "RETRY_FIRST_S", 0.0)
    for _ in range(drains.ATTEMPTS - 1):
        world.relay()

    assert world.heard() == ["a", "b", "c"] and counted("outbox_parked") == 1


def test_a_refused_message_waits_its_time_wherever_it_stands(world, kept, monkeypatch):
    """Behind more than a batch of another refused channel too: attempts that follow each
    other at once would park it within a moment."""
    draft_of = OutboxMessage.draft
    same = next(f"c{n}" for n in range(999) if partition_of(f"c{n}") == PARTITION)

    def spoilt(row):
        options = ChannelOptions(history_size="no number")
        return dataclasses.replace(draft_of(row), options=options)

    monkeypatch.setattr(OutboxMessage, "draft", spoilt)
    kept(*range(40))
    kept("behind", channel=same)

    for _ in range(2 * drains.ATTEMPTS):
        world.relay()

    tried = OutboxMessage.objects.filter(attempts__gt=0).order_by("id")
    assert list(tried.values_list("channel", "attempts")) == [("room", 1), (same, 1)]


def test_redis_being_away_is_no_attempt(world, kept, monkeypatch):
    """However often it is tried: nothing is parked, nothing is counted against a row."""
    monkeypatch.setattr(drains, "RETRY_FIRST_S", 0.0)
    kept(1, 2)
    world.redis.kill()

    for _ in range(10):
        assert world.relay().has_failed
    assert set(OutboxMessage.objects.values_list("attempts", "parked")) == {(0, False)}
    world.redis.start()
    world.relay()

    assert world.heard() == [1, 2]


def test_an_abandoned_lease_runs_out(world, kept, monkeypatch, counted):
    """A holder that died with it is taken over from; what it published is found."""
    if not world.database["ENGINE"].endswith("sqlite3"):
        pytest.skip("has locks of its own")
    kept("a")
    lease = locks._take_lease("default", PARTITION, "dead")
    outcome = publisher.broker().publish_fenced(
        [(row.pk, row.draft()) for row in OutboxMessage.objects.all()], lease.fence
    )
    assert outcome[0].position.offset == 1
    world.relay()
    assert world.waiting() == 1, "the lease is not over"

    OutboxPartition.objects.update(expires_at=0.0)
    world.relay()

    assert world.heard() == ["a"] and world.waiting() == 0
    assert counted("outbox_found") == 1


def test_a_lease_is_given_back_though_what_became_of_a_batch_cannot_be_committed(
    world, kept, monkeypatch
):
    """A locked SQLite: the next round need not wait until the lease runs out."""
    if not world.database["ENGINE"].endswith("sqlite3"):
        pytest.skip("has locks of its own")
    publish("room", 0)
    kept(1)
    commit, commits = connections["default"]._commit, []

    def locked():
        commits.append(1)
        if len(commits) == 1:
            raise OperationalError("database is locked")
        commit()

    monkeypatch.setattr(connections["default"], "_commit", locked)
    world.relay()
    assert commits and OutboxPartition.objects.get(pk=PARTITION).holder == ""
    world.relay()

    assert world.heard() == [0, 1] and world.waiting() == 0


def test_one_query_says_which_partitions_have_messages(world, kept):
    """Parked ones do not count."""
    kept("a")
    kept("b", channel="another")
    OutboxMessage.objects.filter(channel="another").update(parked=True)

    assert waiting_partitions("default") == [PARTITION]


def test_versions_come_through(world, monkeypatch):
    """An older version of a row is dropped out of the outbox too."""
    from redis_pubsub.messages import Draft, new_header

    header = {"model": "shop.order", "pk": "1"}
    options = ChannelOptions(history_size=10)
    drafts = [
        Draft("room", new_header(**header), str(v).encode(), options, v) for v in (2, 1, 3)
    ]
    rows.write(drafts, "default")

    deliver.drain()("default", PARTITION, for_s=1)

    assert world.heard() == [2, 3] and world.waiting() == 0


def test_the_second_connection_is_another(world, second):
    """What these tests stand on."""
    with as_default(world.database) as mine:
        assert mine is not second


def test_a_stricter_isolation_level_sees_what_the_last_holder_did(world, kept):
    """Under REPEATABLE READ the lock's own transaction would look at the past."""
    if not world.database["ENGINE"].endswith("postgresql"):
        pytest.skip("a matter of PostgreSQL's locks")
    with connections["default"].cursor() as cursor:
        cursor.execute("SET default_transaction_isolation TO 'repeatable read'")
    kept("a")
    world.relay()
    publish("room", "b")

    with locks.hold("default", PARTITION), connections["default"].cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)

    assert world.heard() == ["a", "b"]
