"""The thread that publishes for those who commit: at once, many at a time, to the end."""

from __future__ import annotations

import threading

import pytest

from redis_pubsub.publishing.outbox import courier as couriers
from redis_pubsub.publishing.outbox.courier import Courier
from redis_pubsub.publishing.under_test import is_under_test

WAIT_S = 15


class Visits:
    """Takes down who visits what; may be made to wait, or to die."""

    def __init__(self):
        self.seen = []
        self.threads = set()
        self.may_go = threading.Event()
        self.may_go.set()
        self.dies = False
        self._changed = threading.Condition()

    def __call__(self, using, partition):
        with self._changed:
            self.seen.append((using, partition))
            self.threads.add(threading.current_thread())
            self._changed.notify_all()
        assert self.may_go.wait(WAIT_S)
        if self.dies:
            raise SystemExit

    def wait_for(self, number):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= number, WAIT_S)


@pytest.fixture
def visits():
    return Visits()


@pytest.fixture
def courier(visits):
    courier = Courier(visits)
    yield courier
    visits.may_go.set()
    courier.finish()


def join(visits):
    for thread in visits.threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_another_thread_visits(courier, visits):
    """Whoever wakes it goes on."""
    assert courier.wake("default", [3])

    visits.wait_for(1)

    assert visits.seen == [("default", 3)]
    assert threading.current_thread() not in visits.threads


def test_what_is_committed_during_a_visit_is_one_visit_more(courier, visits):
    """However many commits there are: nothing piles up, and none is forgotten."""
    visits.may_go.clear()
    courier.wake("default", [1])
    visits.wait_for(1)
    for _ in range(1_000):
        courier.wake("default", [1, 2])
    courier.wake("other", [1])
    visits.may_go.set()

    visits.wait_for(4)
    courier.finish()

    assert visits.seen == [("default", 1), ("default", 1), ("default", 2), ("other", 1)]
    assert len(visits.threads) == 1


def test_the_end_of_a_process_publishes_first(courier, visits):
    """What was committed is visited; later commits are told to see to themselves."""
    visits.may_go.clear()
    courier.wake("default", [1])
    visits.wait_for(1)
    courier.wake("default", [2])
    assert courier.finish(0.0) is False
    visits.may_go.set()

    assert courier.finish(WAIT_S)
    assert visits.seen == [("default", 1), ("default", 2)]
    assert courier.wake("default", [3]) is False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_noticed_and_replaced(courier, visits, counted, caplog):
    """At the next commit, with a line in the log and a count."""
    visits.dies = True
    courier.wake("default", [1])
    visits.wait_for(1)
    join(visits)
    visits.dies = False

    assert courier.wake("default", [2])

    visits.wait_for(2)
    assert counted("outbox_courier_died") == 1
    assert "has died" in caplog.text


def test_an_idle_thread_ends_and_comes_back(courier, visits, monkeypatch, counted):
    """Its database connections end with it; that is no death."""
    monkeypatch.setattr(couriers, "IDLE_S", 0.01)
    courier.wake("default", [1])
    visits.wait_for(1)
    join(visits)

    courier.wake("default", [2])

    visits.wait_for(2)
    assert len(visits.threads) == 2 and counted("outbox_courier_died") == 0


def test_without_another_thread_the_caller_publishes(courier, visits, monkeypatch):
    """As at the interpreter's end."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert courier.wake("default", [1]) is False


def test_tests_publish_in_their_own_thread(monkeypatch):
    """Under Django's test environment nothing is left to a thread."""
    import django.test.utils

    assert is_under_test()
    monkeypatch.delattr(django.test.utils._TestState, "saved_data")

    assert not is_under_test()


@pytest.mark.may_block(reason="starts a process")
def test_a_command_that_ends_after_its_commit_has_published(world):
    """Nobody relays; the last commit is followed by the process's end."""
    words = list(range(30))
    process = world.agent("publish_and_end", words=words)

    assert process.wait(60) == 0
    assert world.waiting() == 0 and world.heard() == words


@pytest.mark.may_block(reason="starts a process")
def test_a_forked_process_has_a_courier_of_its_own(world):
    """As workers of a server that loads the site before it forks."""
    process = world.agent("publish_and_fork")

    assert process.wait(60) == 0
    assert world.waiting() == 0 and world.heard() == ["before", "child", "parent"]


@pytest.mark.may_block(reason="starts a process")
def test_who_saves_does_not_wait_for_redis(world):
    """A Redis that does not answer keeps the courier waiting, and nobody else."""
    process = world.agent("publish_before_redis_answers", words=["a", "b"])

    process.wait_for("saved")

    assert process.wait(60) == 0
    assert world.heard() == ["a", "b"] and world.waiting() == 0
