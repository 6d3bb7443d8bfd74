"""What is sent is run, once, by one worker."""

from __future__ import annotations

import asyncio
import uuid

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from django.db import transaction

from redis_pubsub import publish
from redis_pubsub.broker import posting
from redis_pubsub.broker.jobs import End, QueueState
from redis_pubsub.conf import get_config
from redis_pubsub.consumers import asend, by_name, consumer, send
from redis_pubsub.exceptions import HandlerConfigError, QueueFull
from redis_pubsub.publishing import publisher as publishers
from redis_pubsub.publishing.publisher import publisher


def recorder(*names, **options):
    """A consumer that keeps what it was called with."""
    seen = []

    @consumer(*names, **options)
    async def record(**arguments):
        seen.append(arguments)

    return record, seen


def dead(queue):
    return publisher.broker().jobs.dead(queue, 100)


def state(queue) -> QueueState:
    return publisher.broker().jobs.state([queue])[queue]


async def test_a_job_is_run_with_the_arguments_it_was_sent_with(any_site, work, until):
    """C-2: what `asend` takes, the function gets, by keyword."""
    record, seen = recorder("greet")
    await work(record)

    await asend("greet", name="Ada", tags=[1, None, {"a": "ü"}])
    await until(lambda: seen)

    assert seen == [{"name": "Ada", "tags": [1, None, {"a": "ü"}]}]


async def test_plain_functions_run_in_threads(any_site, work, until):
    """C-2: a function that blocks does not block the worker."""
    import threading

    names = []

    @consumer("plain")
    def plain():
        names.append(threading.current_thread().name)

    await work(plain)

    await plain.asend()
    await until(lambda: names)

    assert names[0] != threading.main_thread().name


async def test_a_job_waits_until_a_worker_comes(any_site, work, until):
    """C-2: who sends does not wait, and needs no worker."""
    record, seen = recorder("patience")
    id = await asend("patience", n=1)
    assert uuid.UUID(id)

    await work(record)
    await until(lambda: seen)

    assert seen == [{"n": 1}]


@pytest.mark.django_db(transaction=True)
async def test_jobs_are_run_in_order_by_one_who_does_one_at_a_time(any_site, work, until):
    """C-15: ten thousand, sent together: first in, first out."""
    record, seen = recorder("line")

    def send_all():
        with transaction.atomic():
            for n in range(10_000):
                send("line", n=n)

    await sync_to_async(send_all)()
    await work(record, concurrency=1)
    await until(lambda: len(seen) == 10_000, 60)

    assert [each["n"] for each in seen] == list(range(10_000))


async def test_a_megabyte_passes(any_site, work, until):
    """C-15: as much as a message may have."""
    record, seen = recorder("big")
    text = "x" * (get_config().limits.message_bytes - 100)
    await work(record)

    await asend("big", text=text)
    await until(lambda: seen)

    assert seen == [{"text": text}]


async def test_a_delayed_job_is_not_run_before_its_time(any_site, work, until):
    """It is due when it is due, and the worker wakes for it by itself."""
    loop = asyncio.get_running_loop()
    at = []

    @consumer("later")
    async def later():
        at.append(loop.time())

    await work(later)
    began = loop.time()
    await later.asend(delay_s=0.3)
    assert (await sync_to_async(state)("later")).later == 1
    await until(lambda: at)

    assert at[0] - began >= 0.29


async def test_an_expired_job_is_not_run(any_site, work, until):
    """C-11: what nobody ran in time is dropped, and counted."""
    record, seen = recorder("news")
    await asend("news", n=1, expires_s=0.01)
    await asend("news", n=2, expires_s=60)
    await asyncio.sleep(0.02)

    worker = await work(record)
    await until(lambda: seen)

    assert seen == [{"n": 2}]
    assert worker.engine.metrics["jobs_expired"] == 1


async def test_a_job_that_fails_is_tried_again(any_site, work, until):
    """C-4: an exception is logged, and the job comes back."""
    tries = []

    @consumer("flaky", retries=3, backoff_s=0.01)
    async def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    worker = await work(flaky)

    await flaky.asend()
    await until(lambda: worker.engine.metrics["jobs_done"])

    assert len(tries) == 3
    assert await sync_to_async(dead)("flaky") == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
async def test_a_poison_message_becomes_a_dead_letter_and_the_worker_goes_on(
    error, any_site, work, until
):
    """C-4: whatever is raised, the next job is run; the traceback is kept."""
    seen = []

    @consumer("eat", retries=1, backoff_s=0.01)
    async def eat(what):
        if what == "poison":
            raise error("ugh")
        seen.append(what)

    worker = await work(eat, concurrency=1)

    await eat.asend(what="poison")
    await eat.asend(what="bread")
    await until(lambda: seen and worker.engine.metrics["jobs_dead"])
    await until(lambda: worker.running == 0)

    (letter,) = await sync_to_async(dead)("eat")
    assert letter.attempts == 2
    assert letter.message.payload == {"what": "poison"}
    assert "Traceback" in letter.error and error.__name__ in letter.error
    assert seen == ["bread"]


async def test_a_dead_letter_can_be_replayed(any_site, work, until):
    """C-4: what was repaired is done."""
    is_repaired, seen = [], []

    @consumer("mend", retries=0)
    async def mend(n):
        if not is_repaired:
            raise RuntimeError("broken")
        seen.append(n)

    worker = await work(mend)
    await mend.asend(n=7)
    await until(lambda: worker.engine.metrics["jobs_dead"] and not worker.running)
    is_repaired.append(True)

    (letter,) = await sync_to_async(dead)("mend")
    assert await sync_to_async(publisher.broker().jobs.replay)("mend", letter.entry)
    await until(lambda: seen)

    assert seen == [7]
    assert await sync_to_async(dead)("mend") == []
    assert not await sync_to_async(publisher.broker().jobs.replay)("mend", letter.entry)


async def test_wrong_arguments_are_a_dead_letter_too(any_site, work, until):
    """C-4: a job that does not fit its function stops nobody."""

    @consumer("strict", retries=0)
    async def strict(n):
        """Takes one argument."""

    worker = await work(strict)

    await asend("strict", m=1)
    await until(lambda: worker.engine.metrics["jobs_dead"] and not worker.running)

    (letter,) = await sync_to_async(dead)("strict")
    assert "TypeError" in letter.error


async def test_workers_share_the_jobs(any_site, work, until):
    """C-3: each job is run by one of them."""
    seen = []

    @consumer("share")
    async def share(n):
        seen.append(n)
        await asyncio.sleep(0)

    for _ in range(3):
        await work(share, concurrency=2)

    for n in range(300):
        await share.asend(n=n)
    await until(lambda: len(seen) >= 300, 20)

    assert sorted(seen) == list(range(300))


async def test_a_silent_workers_jobs_are_taken_over(any_site, work, until, settings):
    """C-3: a worker that died in the middle of a job said nothing since."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "workers": {"takeover_s": 0.4}}
    record, seen = recorder("orphan")
    worker = await work(record, queues=["orphan"])
    await worker.close()
    await asend("orphan", n=1)
    jobs = worker.engine.hub.broker.jobs
    haul = await jobs.take(["orphan"], "one-that-dies", 10)
    assert len(haul.jobs) == 1

    heir = await work(record)
    await until(lambda: seen)

    assert seen == [{"n": 1}]
    assert heir.engine.metrics["jobs_taken_over"] == 1
    assert await jobs.end("one-that-dies", haul.jobs[0], End()) is False


async def test_a_long_job_is_not_stolen(any_site, work, until, settings):
    """C-3: who says that he still works keeps his job, however long it takes."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "workers": {"takeover_s": 2.0}}
    begun, may_end, done = [], asyncio.Event(), []

    @consumer("long")
    async def long():
        begun.append(1)
        await may_end.wait()
        done.append(1)

    first, second = await work(long), await work(long)
    await long.asend()
    await until(lambda: begun)
    # Longer than the time after which a silent worker's job is given away.
    await asyncio.sleep(3.0)
    may_end.set()
    await until(lambda: done)

    assert len(begun) == 1
    for worker in (first, second):
        assert worker.engine.metrics["jobs_lost"] == 0


async def test_a_worker_does_not_take_over_its_own_jobs(any_site, work, until, settings):
    """C-3: a loop that stood still for long finds itself silent, and knows better."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "workers": {"takeover_s": 0.2}}
    begun, may_end = [], asyncio.Event()

    @consumer("own")
    async def own():
        begun.append(1)
        await may_end.wait()

    worker = await work(own, concurrency=3)
    worker._tasks[1].cancel()
    await own.asend()
    await until(lambda: begun)
    # Several looks for silent workers.
    await asyncio.sleep(0.6)
    may_end.set()
    await until(lambda: worker.engine.metrics["jobs_done"])

    assert len(begun) == 1


async def test_a_job_that_kills_its_workers_is_laid_aside(any_site, work, until, settings):
    """C-4: after ``crashes`` workers, no further one is tried."""
    settings.REDIS_PUBSUB = {
        **settings.REDIS_PUBSUB,
        "workers": {"takeover_s": 0.2, "crashes": 2},
    }
    record, seen = recorder("killer")
    worker = await work(record, queues=["killer"])
    await worker.close()
    jobs = worker.engine.hub.broker.jobs
    await asend("killer", n=1)
    for victim in range(2):
        await asyncio.sleep(0.25)
        assert (await jobs.take(["killer"], f"victim-{victim}", 1, silent_s=0.2)).jobs

    last = await work(record)
    await until(lambda: last.engine.metrics["jobs_dead"] and not last.running)

    (letter,) = await sync_to_async(dead)("killer")
    assert "2 workers died" in letter.error
    assert seen == []


async def test_a_stopping_worker_finishes_what_runs(any_site, work, until):
    """Clean stop: what has begun ends, what has not waits for others."""
    begun, may_end, done = [], asyncio.Event(), []

    @consumer("finish")
    async def finish(n):
        begun.append(n)
        await may_end.wait()
        done.append(n)

    worker = await work(finish, concurrency=1)
    await finish.asend(n=1)
    await finish.asend(n=2)
    await until(lambda: begun)
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    may_end.set()
    await closing

    assert done == [1]
    left = await sync_to_async(state)("finish")
    assert (left.waiting, left.running) == (1, 0)


async def test_what_does_not_finish_in_time_is_given_back(any_site, work, until, settings):
    """Clean stop: the next worker gets it at once, as a first attempt."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "workers": {"stop_s": 0.05}}
    begun = []

    @consumer("endless")
    async def endless():
        begun.append(1)
        await asyncio.Event().wait()

    worker = await work(endless)
    await endless.asend()
    await until(lambda: begun)
    await worker.close()

    left = await sync_to_async(state)("endless")
    assert (left.later, left.running, left.dead) == (1, 0, 0)
    await work(endless)
    await until(lambda: len(begun) == 2)


@pytest.mark.django_db(transaction=True)
async def test_a_full_queue_says_so(any_site, settings):
    """Bounds: a job too many is refused, with what to do; nothing is lost silently."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "workers": {"queue_jobs": 2}}
    await asend("full", n=1)
    await asend("full", n=2, delay_s=60)

    with pytest.raises(QueueFull, match="start more workers") as refused:
        await asend("full", n=3)

    assert (refused.value.queue, refused.value.limit) == ("full", 2)
    with pytest.raises(QueueFull):
        await sync_to_async(send)("full", n=3)


@pytest.mark.parametrize("value", [object(), {1: {2, object()}}, 1j])
def test_arguments_that_are_no_json_are_refused_by_send(site, value):
    """M-10: no pickle, so no objects; the error says what to send instead."""
    with pytest.raises(TypeError, match=r"JSON-able.*primary key"):
        send("greet", value=value)


async def test_pickled_arguments_are_not_loaded(site, work, until):
    """M-10: whoever writes into Redis can make a dead letter, and run nothing."""
    import pickle

    record, seen = recorder("greet")
    worker = await work(record)
    key = f"{site['prefix']}:{{%00queues}}:greet:jobs"
    evil = pickle.dumps({"name": print})

    async with redis.asyncio.Redis.from_url(site["url"]) as attacker:
        await attacker.xadd(key, {"h": evil, "d": evil, "x": 0, "a": 0})
    await until(lambda: worker.engine.metrics["jobs_dead"] and not worker.running)

    assert seen == []
    (letter,) = await sync_to_async(dead)("greet")
    assert letter.message is None and letter.raw == evil


async def test_a_job_whose_count_is_no_number_costs_those_beside_it_nothing(
    site, work, until
):
    """M-10: it is a dead letter; what was taken with it is run."""
    record, seen = recorder("greet")
    key = f"{site['prefix']}:{{%00queues}}:greet:jobs"
    async with redis.asyncio.Redis.from_url(site["url"]) as attacker:
        await attacker.xadd(key, {"h": "{}", "d": "{}", "x": 0, "a": "many"})
    await record.asend(n=1)

    worker = await work(record)
    await until(lambda: seen and not worker.running)

    assert seen == [{"n": 1}] and worker.engine.metrics["worker_errors"] == 0
    assert len(await sync_to_async(dead)("greet")) == 1


async def test_a_job_that_was_taken_out_of_the_stream_ends(site, work, until):
    """Redis is not trusted: what cannot be put off any more does not hold its worker."""
    client = redis.asyncio.Redis.from_url(site["url"])
    key = f"{site['prefix']}:{{%00queues}}:breaks:jobs"

    @consumer("breaks")
    async def breaks():
        ((entry, _),) = await client.xrange(key)
        await client.xdel(key, entry)
        raise ZeroDivisionError

    worker = await work(breaks)
    await breaks.asend()
    await until(lambda: worker.engine.metrics["jobs_failed"] and not worker.running)

    assert worker.engine.metrics["jobs_lost"] == 1
    await client.aclose()


async def test_with_an_envelope_key_only_signed_jobs_are_run(site, settings, work, until):
    """Somebody else's jobs are dead letters."""
    await asend("greet", name="Mallory")
    settings.REDIS_PUBSUB = {**site, "envelope_key": "k" * 32}
    record, seen = recorder("greet")
    worker = await work(record)
    await asend("greet", name="Ada")
    await until(lambda: seen and worker.engine.metrics["jobs_dead"])

    assert seen == [{"name": "Ada"}]


def test_two_consumers_of_one_name_are_refused():
    """C-5: the message names both."""

    @consumer("twice")
    def one():
        """First."""

    @consumer("once", "twice")
    def other():
        """Second."""

    with pytest.raises(HandlerConfigError) as refused:
        by_name([one, other])

    assert one.path in str(refused.value) and other.path in str(refused.value)


@pytest.mark.parametrize("name", ["delay_s", "at", "expires_s", "using"])
def test_arguments_cannot_be_called_as_options_of_send(name):
    """Told where the function is written, not where it is missed."""
    namespace = {}
    exec(f"def f({name}): pass", namespace)

    with pytest.raises(TypeError, match=name):
        consumer("x")(namespace["f"])


async def test_send_on_the_loop_names_asend(site):
    """It would block the loop."""
    with pytest.raises(RuntimeError, match="asend"):
        send("greet")


async def test_a_worker_outlives_a_flushed_redis(site, work, until):
    """The consumer group is made anew."""
    record, seen = recorder("again")
    worker = await work(record)
    await asend("again", n=1)
    await until(lambda: len(seen) == 1)

    async with redis.asyncio.Redis.from_url(site["url"]) as admin:
        await admin.flushdb()
    await asend("again", n=2)
    await until(lambda: len(seen) == 2)

    assert worker.engine.metrics["worker_errors"] == 0


@pytest.mark.django_db(transaction=True)
async def test_a_job_ends_after_what_it_has_committed(site, work, until, monkeypatch):
    """A worker that dies right then leaves no job that is done without its messages."""
    monkeypatch.setattr(publishers, "is_under_test", lambda: False)
    monkeypatch.setattr(publisher, "_is_ending", False)
    # Nobody reads an answer unless he is asked to.
    monkeypatch.setattr(posting, "READ_S", 3600.0)

    @consumer("post")
    def post():
        with transaction.atomic():
            publish("room", 1)

    worker = await work(post)
    settled = []
    end = worker._jobs.end

    async def noted(*arguments):
        settled.append(publisher.broker().is_settled)
        return await end(*arguments)

    monkeypatch.setattr(worker._jobs, "end", noted)
    await post.asend()
    await until(lambda: settled)

    assert settled == [True]
    publisher.close()
