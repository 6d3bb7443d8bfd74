"""Workers in processes of their own, as in production, some of them killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import transaction

from redis_pubsub import send
from redis_pubsub.publishing.publisher import publisher
from tests.processes import Process

pytestmark = [
    pytest.mark.may_block(reason="the test itself starts processes"),
    pytest.mark.django_db(transaction=True),
]


class Notes:
    """What the consumers of ``tests.shop`` have noted."""

    def __init__(self, values):
        self._redis = redis.Redis.from_url(values["url"])
        self._prefix = values["prefix"]

    def __getitem__(self, key):
        found = self._redis.lrange(f"{self._prefix}-notes:{key}", 0, -1)
        return [each.decode() for each in found]

    def wait(self, key, count, timeout_s=30):
        end = time.monotonic() + timeout_s
        while len(self[key]) < count:
            assert time.monotonic() < end, f"{key}: {len(self[key])} of {count}"
            time.sleep(0.01)


@pytest.fixture
def notes(site):
    return Notes(site)


@pytest.fixture
def start(site, tmp_path):
    """Start worker processes on the test's Redis; all are ended with the test."""
    started = []

    def start(*arguments, **workers):
        settings = tmp_path / f"worker_settings_{len(started)}.py"
        values = {**site, "workers": workers} if workers else dict(site)
        settings.write_text(f"from tests.settings import *\nREDIS_PUBSUB = {values!r}\n")
        process = Process(
            *("-m", "django", "pubsub_worker", *arguments),
            env={
                "DJANGO_SETTINGS_MODULE": settings.stem,
                "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}",
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive:
            process.end(signal.SIGKILL)


def ready(*processes):
    for process in processes:
        process.wait_for("Quit with CONTROL-C")


def test_a_thousand_tasks_over_four_workers_one_of_which_is_killed(start, notes):
    """C-3: each is run; only what the killed one had in its hands may run twice."""
    workers = [
        start("count", "--concurrency", "4", takeover_s=2.0, stop_s=5.0) for _ in range(4)
    ]
    ready(*workers)

    with transaction.atomic():
        for number in range(1000):
            send("count", number=number)
    notes.wait("runs", 400)
    workers[0].end(signal.SIGKILL)
    end = time.monotonic() + 20
    while len(set(notes["runs"])) < 1000 and time.monotonic() < end:
        time.sleep(0.02)

    runs = notes["runs"]
    assert {int(run) for run in runs} == set(range(1000))
    assert len(runs) - 1000 <= 4
    state = publisher.broker().jobs.state(["count"])["count"]
    assert state.dead == 0 and state.later == 0


def test_a_worker_that_is_asked_to_stop_finishes_what_runs(start, notes):
    """Clean stop: SIGTERM, exit status 0, and nothing is run twice."""
    worker = start("slow", "--concurrency", "1")
    ready(worker)
    send("slow", seconds=0.5)
    send("slow", seconds=0.0)
    notes.wait("slow", 1)

    status = worker.end(signal.SIGTERM)

    assert status == 0, worker.output
    assert notes["slow"] == ["begun", "done"]
    state = publisher.broker().jobs.state(["slow"])["slow"]
    assert (state.waiting, state.running) == (1, 0)


def test_a_thread_that_does_not_end_does_not_keep_the_worker(start, notes):
    """Clean stop is bounded: the job is given back, and another worker gets it."""
    worker = start("slower", stop_s=0.2)
    ready(worker)
    send("slower", seconds=60)
    notes.wait("slow", 1)

    began = time.monotonic()
    status = worker.end(signal.SIGTERM)

    assert status == 0, worker.output
    assert time.monotonic() - began < 20
    assert "did not finish" in worker.output
    assert publisher.broker().jobs.state(["slower"])["slower"].later == 1


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_poison_does_not_end_a_worker(how, start, notes):
    """C-4: tried twice, laid aside with its traceback; the next job runs."""
    worker = start("poison", "count")
    ready(worker)
    send("poison", how=how)
    notes.wait("poison", 2)
    send("count", number=1)
    notes.wait("runs", 1)

    assert worker.is_alive
    end = time.monotonic() + 10
    while not (letters := publisher.broker().jobs.dead("poison", 9)):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "tests/shop/consumers.py" in letters[0].error


def test_a_job_that_kills_its_process_is_laid_aside(start, notes):
    """C-4: a crash of the interpreter is poison too: here ``os._exit`` in the job."""
    options = {"takeover_s": 0.5, "crashes": 2}
    send("poison", how="die")
    for number in (1, 2):
        victim = start("poison", **options)
        notes.wait("poison", number)
        end = time.monotonic() + 10
        while victim.is_alive and time.monotonic() < end:
            time.sleep(0.01)
        assert not victim.is_alive

    survivor = start("poison", **options)
    survivor.wait_for("is a dead letter")

    assert survivor.is_alive
    assert len(notes["poison"]) == 2


def test_one_worker_with_concurrency_one_keeps_the_order(start, notes):
    """C-15: in the order of the commits."""
    worker = start("in_order", "--concurrency", "1")
    with transaction.atomic():
        for number in range(200):
            send("in_order", number=number)
    ready(worker)
    notes.wait("order", 200)

    assert notes["order"] == [str(number) for number in range(200)]


def test_a_broken_consumers_module_stops_the_start(start, tmp_path):
    """C-5, P37's rule for consumers: named, with its traceback."""
    package = tmp_path / "brokenapp"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "consumers.py").write_text("raise ValueError('on purpose')\n")
    (tmp_path / "broken_settings.py").write_text(
        "from tests.settings import *\n"
        "INSTALLED_APPS = [*INSTALLED_APPS, 'brokenapp']\n"
        "REDIS_PUBSUB = {'url': 'unix:///nowhere'}\n"
    )
    process = Process(
        *("-m", "django", "pubsub_worker"),
        env={
            "DJANGO_SETTINGS_MODULE": "broken_settings",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}",
        },
    )
    process.wait_for("brokenapp.consumers does not import: ValueError: on purpose")
    assert process.end(signal.SIGTERM) != 0
    assert "in <module>" in process.output


@pytest.mark.parametrize("command", [["pubsub_worker"], ["pubsub_deadletters", "list"]])
def test_memory_is_refused_where_processes_have_to_share(command, settings):
    """C-10: the error says what to set."""
    settings.REDIS_PUBSUB = {"url": "memory://"}

    with pytest.raises(CommandError, match=r'REDIS_PUBSUB\["url"\]'):
        call_command(*command)


def test_an_unknown_consumer_is_refused(site):
    """The error lists those that there are."""
    with pytest.raises(CommandError, match=r"called nobody; there are: .*count"):
        call_command("pubsub_worker", "nobody")


def test_a_worker_answers_monitoring(start, notes):
    """With ``--monitor`` it has its numbers and its health at an address."""
    from urllib.request import urlopen

    from tests.processes import free_port

    port = free_port()
    worker = start("count", "--monitor", f"127.0.0.1:{port}")
    ready(worker)
    send("count", number=1)
    notes.wait("runs", 1)

    def page(path):
        with (
            contextlib.suppress(OSError),
            urlopen(f"http://127.0.0.1:{port}{path}") as reply,
        ):
            return reply.read().decode()
        return ""

    assert "true" in page("/healthz")
    end = time.monotonic() + 10
    while "pubsub_jobs_done_total 1.0" not in page("/metrics"):
        assert time.monotonic() < end, page("/metrics")
        time.sleep(0.05)
    assert 'queue_dead_letters{queue="count"}' in page("/metrics")
