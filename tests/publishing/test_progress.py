"""`redis_pubsub.progress`: what viewers get to see of work, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import msgspec
import pytest
from django.db import transaction

from redis_pubsub import alast, history, last
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.progress import INTERVAL_S, Progress, progress
from redis_pubsub.publishing.publisher import publisher


class Viewed:
    """What was sent, and at what times; ``wait_for`` a state."""

    def __init__(self, monkeypatch):
        self.states = []
        self.errors_left = 0
        self._changed = threading.Condition()
        broker = publisher.broker()
        self._publish = broker.publish
        monkeypatch.setattr(broker, "publish", self._watch)

    def _watch(self, drafts):
        if self.errors_left:
            self.errors_left -= 1
            raise BrokerUnavailable("out for lunch")
        positions = self._publish(drafts)
        with self._changed:
            self.states += [msgspec.json.decode(draft.raw) for draft in drafts]
            self._changed.notify_all()
        return positions

    def wait_for(self, **wanted):
        def is_there():
            return any(wanted.items() <= state.items() for state in self.states)

        with self._changed:
            assert self._changed.wait_for(is_there, 20), self.states

    def named(self, name):
        return [state for state in self.states if state["state"] == name]


@pytest.fixture
def viewed(site, monkeypatch):
    return Viewed(monkeypatch)


def test_a_thousand_steps_are_few_messages_and_one_done(viewed):
    """T-12: However fast the steps come, viewers get some states, and one end."""
    with Progress("import", total=1000, label="Importing") as bar:
        for _ in range(1000):
            bar.tick()

    assert len(viewed.states) < 50
    assert viewed.named("done") == [
        {
            "state": "done",
            "current": 1000,
            "total": 1000,
            "label": "Importing",
            "reason": "",
        }
    ]
    assert viewed.states[-1]["state"] == "done"


def test_states_leave_one_interval_between_them(viewed, monkeypatch):
    """No more than ten a second, the end alone is not kept waiting."""
    waits = []

    class Hurry(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return super().wait(timeout)

    bar = Progress("import")
    bar._sender._hurry = Hurry()
    bar.tick()
    viewed.wait_for(current=1)
    bar.tick()
    viewed.wait_for(current=2)
    bar.done()

    assert waits[0] == 0
    assert 0 < waits[1] <= INTERVAL_S


def test_what_was_said_last_is_sent_though_nothing_comes_after_it(viewed):
    """A step that takes an hour begins where viewers see it, not one state earlier."""
    bar = Progress("import", total=10)
    for _ in range(7):
        bar.tick()

    viewed.wait_for(current=7)
    assert last("import").payload["current"] == 7


def test_who_comes_late_finds_the_state_without_a_channel_rule(viewed):
    """T-12: One message is kept, on a channel that no rule names."""
    with Progress("import", total=3) as bar:
        bar.tick()
        viewed.wait_for(current=1)

        assert last("import").payload["current"] == 1

    assert [message.event for message in history("import")] == ["done"]


def test_more_steps_than_fit_into_a_byte_are_counted(viewed):
    """T-12: Steps are numbers, not bytes."""
    with Progress("import", total=100_000) as bar:
        bar.tick(70_000)
        viewed.wait_for(current=70_000)


def test_without_a_total_it_is_indeterminate_until_there_is_one(viewed):
    """T-12: ``reset`` gives the number of steps once it is known."""
    with Progress("import", label="Counting") as bar:
        viewed.wait_for(total=None, label="Counting")
        bar.label = "Importing"
        bar.reset(300)
        bar.tick(299)
        viewed.wait_for(total=300, label="Importing", current=299)


def test_an_exception_is_a_failure_that_names_no_secret(viewed):
    """Viewers learn the kind; the text may say what is not for them."""
    with pytest.raises(LookupError), Progress("import", total=2) as bar:
        bar.tick()
        raise LookupError("password of ada")

    assert viewed.states[-1]["state"] == "failed"
    assert viewed.states[-1]["reason"] == "LookupError"


def test_the_first_end_counts(viewed):
    """After it, steps and other ends say nothing."""
    bar = Progress("import", total=2)
    bar.fail("the file is empty")
    bar.tick()
    bar.done()
    bar.fail("again")

    assert [state["reason"] for state in viewed.states] == ["the file is empty"]


def test_work_begins_anew_after_its_end(viewed):
    """T-12: ``reset`` after ``fail``: another attempt on the same channel."""
    bar = Progress("import", total=2)
    bar.fail("no luck")
    bar.reset(5)
    bar.done()

    assert viewed.states[-1] == {
        "state": "done", "current": 5, "total": 5, "label": "", "reason": ""
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_transaction_keeps_no_progress_back(viewed):
    """Sent inside ``atomic()``, and not taken back by its rollback."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        bar = Progress("import", total=2)
        bar.tick()
        viewed.wait_for(current=1)
        raise ZeroDivisionError

    assert last("import").payload["current"] == 1


def test_a_broken_redis_breaks_no_loop(viewed, caplog):
    """The work goes on; the end arrives as soon as Redis is back."""
    viewed.errors_left = 2
    for _ in progress(range(300), channel="import"):
        pass

    viewed.wait_for(state="done", current=300)
    assert len(viewed.named("done")) == 1
    assert "could not be sent" in caplog.text


def test_many_threads_count_together(viewed):
    """Steps of several threads are all counted."""
    with Progress("import", total=4000) as bar:
        threads = [
            threading.Thread(target=lambda: [bar.tick() for _ in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bar.state.current == 4000


def test_a_loop_is_tracked(viewed):
    """The total is what there is; items pass through."""
    assert list(progress(["a", "b"], channel="import")) == ["a", "b"]

    assert viewed.states[-1] == {
        "state": "done", "current": 2, "total": 2, "label": "", "reason": ""
    }  # fmt: skip


def test_a_loop_that_is_left_has_failed(viewed):
    """Nobody waits for a bar that will never move again."""
    for item in progress(range(300), channel="import"):
        if item == 5:
            break

    viewed.wait_for(state="failed", current=5, reason="stopped")


async def test_a_loop_of_coroutines_is_tracked(site):
    """``async for`` over what comes slowly, or over a plain list."""

    async def rows():
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    assert [row async for row in progress(rows(), channel="import", total=3)] == [0, 1, 2]
    assert [row async for row in progress([7], channel="other")] == [7]

    message = await alast("import")
    assert (message.event, message.payload["current"]) == ("done", 3)
    assert (await alast("other")).payload["total"] == 1


async def test_a_block_of_a_coroutine_waits_for_its_end_alone(site):
    """``async with``: no step waits for Redis; behind the block the end is there."""
    async with Progress("import", total=300) as bar:
        for _ in range(300):
            bar.tick()

    assert (await alast("import")).event == "done"


async def test_a_block_that_fails_in_a_coroutine_says_so(site):
    """As in a thread."""
    with pytest.raises(LookupError):
        async with Progress("import"):
            raise LookupError

    assert (await alast("import")).payload["reason"] == "LookupError"


@pytest.mark.django_db
def test_a_users_progress_is_on_a_channel_of_his(user):
    """``for_user``: nobody else may hear it."""
    assert Progress.for_user(user, "import").channel == f"user:{user.pk}:import"
    with pytest.raises(ValueError, match="a topic"):
        Progress.for_user(user, "")


@pytest.mark.parametrize(
    "options", [{"total": -1}, {"expire_s": 0}], ids=["total", "expire_s"]
)
def test_impossible_numbers_are_refused(options):
    """At once, not when the first state is sent."""
    with pytest.raises(ValueError, match="number"):
        Progress("import", **options)


@pytest.mark.may_block(reason="waits for a child process")
def test_a_progress_goes_on_in_a_forked_process(viewed):
    """What a parent has begun a child may go on with: no thread is taken over."""
    bar = Progress("import", total=3)
    stay = threading.Event()
    bar._sender._thread = threading.Thread(target=stay.wait)
    bar._sender._thread.start()
    pid = os.fork()
    if not pid:
        bar.tick(2)
        bar._sender._thread.join(20)
        os._exit(0)
    try:
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        stay.set()

    assert last("import").payload["current"] == 2


@pytest.mark.may_block(reason="waits for a child process")
def test_a_fork_while_a_state_is_on_its_way_does_not_stop_the_child(viewed):
    """A thread of the parent that is sending holds locks which nobody in the child would
    ever give back."""
    bar = Progress("import", total=3)
    bar._sender._sending.acquire()
    bar._sender._hurry._cond.acquire()
    holder = threading.Thread(target=bar._sender.lock.acquire)
    holder.start()
    holder.join()
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        bar.done()
        os._exit(0)

    assert os.waitpid(pid, 0)[1] == 0
    assert last("import").payload["state"] == "done"
