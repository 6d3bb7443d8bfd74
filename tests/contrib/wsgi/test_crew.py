"""How many threads run at once: one that computes, all that wait for something."""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import threading
import time

import pytest

from redis_pubsub.contrib.wsgi import crew as crew_module
from redis_pubsub.contrib.wsgi import pace as pace_module
from redis_pubsub.contrib.wsgi.pace import LOOK_S, Meter, Pace, Window, is_slow

from . import apps
from .client import PATIENCE_S, ask, get, until

THREADS = 8


def window(*, busy: float, loop: float = 0.0, queued: float = 0.0) -> Window:
    """One look long; shares of a core."""
    return Window(LOOK_S, busy * LOOK_S, loop * LOOK_S, queued * LOOK_S)


class Looks:
    """Stands in for the clocks: every look finds the process this busy."""

    def __init__(self, monkeypatch, busy: float) -> None:
        self.count = 0
        self._busy = busy
        monkeypatch.setattr(crew_module, "clocks", self.read)

    def read(self) -> tuple[float, float, float]:
        self.count += 1
        wall_s = time.monotonic()
        return wall_s, wall_s * self._busy, 0.0


@pytest.fixture
def computing(monkeypatch):
    """Pages that are inside compute, as far as anybody can tell; nothing is tried."""
    monkeypatch.setattr(pace_module, "_LOOKS_PER_TRIAL", sys.maxsize)
    monkeypatch.setattr(crew_module, "is_slow", lambda *args, **numbers: False)
    return Looks(monkeypatch, busy=1.0)


class Room:
    """An application that counts who is inside, and lets nobody out before it is open."""

    def __init__(self):
        self.inside = 0
        self.open = threading.Event()

    def __call__(self, environ, start_response):
        self.inside += 1
        self.open.wait(PATIENCE_S)
        return apps.echo(environ, start_response)


class Meeting:
    """An application whose pages wait for each other."""

    def __init__(self, size: int):
        self._barrier = threading.Barrier(size)

    def __call__(self, environ, start_response):
        self._barrier.wait(PATIENCE_S)
        return apps.echo(environ, start_response)


def asked(server, count: int) -> list[asyncio.Task]:
    return [asyncio.create_task(ask(server.port, get("/"))) for _ in range(count)]


async def statuses(asking: list[asyncio.Task]) -> list[int]:
    return [reply.status for reply in await asyncio.gather(*asking)]


# -- the pace ---------------------------------------------------------------------------


def test_a_busy_process_ends_with_one_at_once():
    """Whatever the limit was: threads that compute only take the lock from each other."""
    pace = Pace(THREADS, is_limited=True)
    while pace.limit < THREADS:
        pace.adapt(window(busy=0.1), has_waiting=True)

    limits = []
    for _ in range(60):
        pace.adapt(window(busy=1.0), has_waiting=True)
        limits.append(pace.limit)

    assert limits[-1] == 1
    assert limits == sorted(limits, reverse=True)


def test_an_idle_process_runs_all_after_three_looks():
    """What waits may be what the others wait for."""
    pace = Pace(THREADS, is_limited=True)

    for _ in range(3):
        pace.adapt(window(busy=0.1), has_waiting=True)

    assert pace.limit == THREADS


def test_a_process_that_is_partly_idle_runs_more_after_a_second_look():
    """One look may have met a moment of the machine."""
    pace = Pace(THREADS, is_limited=True)

    pace.adapt(window(busy=0.7), has_waiting=True)
    once = pace.limit
    pace.adapt(window(busy=0.7), has_waiting=True)

    assert (once, pace.limit) == (1, 2)


def test_an_idle_process_changes_nothing_while_nothing_waits():
    """There is nothing to run."""
    pace = Pace(THREADS, is_limited=True)

    for _ in range(10):
        pace.adapt(window(busy=0.1), has_waiting=False)

    assert pace.limit == 1


def test_threads_that_wait_for_a_core_are_not_idle():
    """On a machine with other things to do, more threads would not get more of it."""
    pace = Pace(THREADS, is_limited=True)

    for _ in range(10):
        pace.adapt(window(busy=0.4, queued=0.5), has_waiting=True)

    assert pace.limit == 1


def test_threads_that_compute_outside_of_the_lock_get_all_cores():
    """A busy process tries two now and then; where both have a core, it goes on."""
    pace = Pace(THREADS, is_limited=True)

    for _ in range(200):
        cores = min(pace.limit, 4)
        pace.adapt(window(busy=cores + 0.2, loop=0.2), has_waiting=True)

    assert pace.limit >= 4


def test_the_loops_own_work_is_not_taken_for_parallel_pages():
    """Sending to many sockets goes on beside a page; that says nothing about pages."""
    pace = Pace(THREADS, is_limited=True)

    limits = set()
    for _ in range(200):
        pace.adapt(window(busy=1.6, loop=0.6), has_waiting=True)
        limits.add(pace.limit)

    assert limits == {1, 2}


@pytest.mark.parametrize(
    ("used_s", "age_s", "slow"),
    [
        (0.0, 2 * LOOK_S, True),
        (0.0, LOOK_S / 2, False),
        (LOOK_S, 2 * LOOK_S, False),
        (LOOK_S, 100 * LOOK_S, True),
    ],
    ids=["asleep", "asleep-but-new", "computes", "computes-for-long"],
)
def test_work_that_waits_or_takes_long_is_slow(used_s, age_s, slow):
    """It must not keep other work waiting."""
    seen = is_slow(window(busy=1.0), used_s=used_s, queued_s=0.0, age_s=age_s)

    assert seen is slow


@pytest.mark.parametrize("accounts", ["kept", "empty", "missing"])
def test_a_meter_reads_what_its_thread_used(monkeypatch, tmp_path, accounts):
    """Also where the system keeps no accounts of threads that wait for a core."""
    if accounts != "kept":
        file = tmp_path / "schedstat"
        if accounts == "empty":
            file.touch()
        open_ = os.open
        monkeypatch.setattr("os.open", lambda path, flags: open_(file, flags))

    meter = Meter()
    used_s = 0.0
    while not used_s:
        sum(range(10_000))
        used_s, queued_s = meter.read()
    meter.close()

    assert queued_s >= 0


# -- the crew, behind a real server -----------------------------------------------------


@pytest.mark.asyncio
async def test_pages_that_compute_run_one_at_a_time(serve, computing):
    """Eight threads, eight requests: one runs, seven wait, all are answered."""
    room = Room()
    server = await serve(room, threads=THREADS)

    asking = asked(server, THREADS)
    await until(lambda: server.handler.load.waiting == THREADS - 1)
    running = server.handler.load.running
    room.open.set()

    assert running == 1
    assert await statuses(asking) == [200] * THREADS
    assert room.inside == THREADS


@pytest.mark.asyncio
@pytest.mark.parametrize("busy", [0.0, 1.0], ids=["idle", "busy"])
async def test_pages_that_wait_for_each_other_all_run(serve, monkeypatch, busy):
    """All threads are there for pages that wait, even if something else is busy."""
    Looks(monkeypatch, busy=busy)
    server = await serve(Meeting(THREADS), threads=THREADS)

    asking = asked(server, THREADS)

    assert await statuses(asking) == [200] * THREADS


@pytest.mark.asyncio
async def test_pages_that_wait_for_each_other_all_run_by_real_clocks(serve):
    """A page that needs another one never waits for its own end."""
    server = await serve(Meeting(THREADS), threads=THREADS)

    for _ in range(3):
        assert await statuses(asked(server, THREADS)) == [200] * THREADS


@pytest.mark.asyncio
async def test_a_page_that_asks_its_own_server_for_a_page_is_answered(serve):
    """Two threads are enough for it, as they are without a limit."""

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/outer":
            inner = http.client.HTTPConnection(
                "127.0.0.1", int(environ["SERVER_PORT"]), timeout=PATIENCE_S
            )
            inner.request("GET", "/inner")
            assert inner.getresponse().read()
            inner.close()
        return apps.echo(environ, start_response)

    server = await serve(application, threads=2)

    reply = await ask(server.port, get("/outer"))

    assert reply.status == 200


@pytest.mark.asyncio
async def test_a_page_that_computes_for_long_keeps_nobody_waiting(serve):
    """It goes on while others come and go."""
    may_end = threading.Event()

    def application(environ, start_response):
        while environ["PATH_INFO"] == "/long" and not may_end.is_set():
            sum(range(100))
        return apps.echo(environ, start_response)

    server = await serve(application, threads=2)
    long = asyncio.create_task(ask(server.port, get("/long")))
    await until(lambda: server.handler.load.running == 1)

    short = await ask(server.port, get("/short"))
    is_over = long.done()
    may_end.set()

    assert short.status == (await long).status == 200
    assert not is_over


@pytest.mark.asyncio
async def test_a_lone_page_is_not_looked_at(serve, computing):
    """Nothing is timed while one thread is enough."""
    server = await serve(apps.echo, threads=THREADS)

    for _ in range(3):
        await ask(server.port, get("/"))

    assert computing.count == 0


@pytest.mark.asyncio
async def test_a_python_without_the_lock_runs_all_threads(serve, monkeypatch, computing):
    """There threads compute side by side: nothing is limited, nothing is looked at."""
    monkeypatch.setattr(crew_module, "threads_share_a_lock", lambda: False)
    server = await serve(Meeting(THREADS), threads=THREADS)

    asking = asked(server, THREADS)

    assert await statuses(asking) == [200] * THREADS
    assert server.handler.load.limit == THREADS
    assert computing.count == 0


@pytest.mark.asyncio
async def test_a_held_page_is_not_run_for_a_client_that_left(serve, computing):
    """Held by the limit is waiting like any other."""
    room = Room()
    server = await serve(room, threads=2, runner={"handler_cancellation": True})
    staying = asked(server, 1)
    await until(lambda: room.inside == 1)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))
    await until(lambda: server.handler.load.waiting == 1)

    writer.transport.abort()
    await until(lambda: len(server.runner.server.connections) == 1)
    room.open.set()
    await statuses(staying + asked(server, 1))

    assert room.inside == 2


@pytest.mark.asyncio
async def test_without_another_thread_pages_wait_for_one(serve, monkeypatch, caplog):
    """As in a container that allows no more: the page before may well end."""
    start = threading.Thread.start
    workers = []

    def start_one(thread):
        if thread.name.startswith("redis_pubsub-wsgi-"):
            workers.append(thread)
            if len(workers) > 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    room = Room()
    server = await serve(room, threads=2)
    first = asked(server, 1)
    await until(lambda: room.inside == 1)
    second = asked(server, 1)
    await until(lambda: len(workers) > 1)

    room.open.set()

    assert await statuses(first + second) == [200, 200]
    assert [each.getMessage() for each in caplog.records] == [
        "no thread can be started; a request waits for one"
    ]
