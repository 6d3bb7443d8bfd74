"""After the commit, in one round trip, whatever savepoints and other hooks do."""

from __future__ import annotations

import pytest
from django.db import connections, transaction
from django.test import TestCase

from redis_pubsub import publish

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Undo(Exception):
    pass


def undone(*actions):
    """Run actions in a savepoint that is rolled back."""
    with pytest.raises(Undo), transaction.atomic():
        for action in actions:
            action()
        raise Undo


def say(word):
    return lambda: publish("news", word)


def words(sent):
    return [body.strip('"') for body in sent.bodies]


def test_a_transaction_is_one_round_trip_after_its_commit(sent):
    """P-17, W-10: nothing before the commit, everything at once after it, in order."""
    with transaction.atomic():
        for number in range(50):
            publish("news", number)
        assert sent.batches == []

    assert len(sent.batches) == 1
    assert sent.bodies == [str(number) for number in range(50)]


def test_a_rollback_is_silent(sent):
    """P-17, B6: what did not happen is not announced."""
    undone(say("a"), say("b"))

    assert sent.batches == []


def test_without_a_transaction_a_message_is_sent_at_once(sent):
    """Autocommit: each publish is its own commit."""
    publish("news", "a")

    assert words(sent) == ["a"]


@pytest.mark.parametrize(
    ("keeps", "expected"),
    [
        ((True, False), ["kept 0"]),
        ((False, True), ["kept 1"]),
        ((False,), []),
        ((True, False, True, False), ["kept 0", "kept 2"]),
    ],
    ids=["last", "first", "only", "in between"],
)
def test_a_rolled_back_savepoint_takes_only_its_own_messages(sent, keeps, expected):
    """Wherever the savepoint stood: the others go out, in one round trip."""
    with transaction.atomic():
        for number, is_kept in enumerate(keeps):
            if is_kept:
                publish("news", f"kept {number}")
            else:
                undone(say(f"undone {number}"))

    assert words(sent) == expected
    assert len(sent.batches) == (1 if expected else 0)


def test_nested_savepoints_follow_the_one_that_is_undone(sent):
    """An inner savepoint that was kept goes with its outer one."""
    with transaction.atomic():
        publish("news", "a")

        def inner():
            publish("news", "b")
            with transaction.atomic():
                publish("news", "c")

        undone(inner)
        with transaction.atomic():
            publish("news", "d")
            undone(say("e"))
            publish("news", "f")

    assert words(sent) == ["a", "d", "f"]
    assert len(sent.batches) == 1


def test_a_foreign_hook_that_raises_loses_no_message(sent):
    """Somebody else's on_commit fails between and after our messages: all were sent."""

    def fail():
        raise RuntimeError("a task queue is down")

    with pytest.raises(RuntimeError), transaction.atomic():
        publish("news", "a")
        transaction.on_commit(fail)
        publish("news", "b")
    with transaction.atomic():
        publish("news", "c")

    assert [len(batch) for batch in sent.batches] == [2, 1]
    assert words(sent) == ["a", "b", "c"]


def test_a_foreign_hook_that_raises_first_leaves_nothing_for_the_next_transaction(sent):
    """Django runs no hook behind a failed one; ours are dropped with their transaction."""

    def fail():
        raise RuntimeError("first")

    with pytest.raises(RuntimeError), transaction.atomic():
        transaction.on_commit(fail)
        publish("news", "a")
    with transaction.atomic():
        publish("news", "b")

    assert words(sent) == ["b"]


def test_two_databases_each_wait_for_their_own_commit(sent):
    """`using` names the transaction that counts."""
    with transaction.atomic(using="default"):
        publish("news", "default")
        with transaction.atomic(using="other"):
            publish("news", "other", using="other")
        assert words(sent) == ["other"]

    assert words(sent) == ["other", "default"]


def test_nothing_stays_behind_in_the_thread(sent):
    """After commits and rollbacks the connection has no hook, and no message of ours."""
    with transaction.atomic():
        publish("news", "a")
        undone(say("b"))
    undone(say("c"))

    assert connections["default"].run_on_commit == []
    with transaction.atomic():
        pass
    assert words(sent) == ["a"]


def test_a_durable_block_and_a_mere_nesting_change_nothing(sent):
    """`atomic(durable=True)` and `savepoint=False` are transactions like others."""
    with transaction.atomic(durable=True):
        publish("news", "a")
        with transaction.atomic(savepoint=False):
            publish("news", "b")

    assert words(sent) == ["a", "b"]


def test_captured_hooks_send_just_what_their_block_published(sent):
    """`captureOnCommitCallbacks` works as Django's users know it, also when earlier
    messages of the test's transaction wait."""
    with transaction.atomic():
        publish("news", "before")
        with TestCase.captureOnCommitCallbacks(execute=True):
            publish("news", "a")
            publish("news", "b")

        assert words(sent) == ["a", "b"]
        transaction.set_rollback(True)


def test_a_thousand_messages_are_one_round_trip_and_more_are_several(sent):
    """Chunks of 1,000 keep a huge transaction from blocking Redis."""
    with transaction.atomic():
        for number in range(2_500):
            publish("news", number)

    assert [len(batch) for batch in sent.batches] == [1_000, 1_000, 500]
