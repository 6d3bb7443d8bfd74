"""Threads: bounded, in order, and never lost."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from aiohttp import web

from redis_pubsub.contrib.wsgi import WSGIHandler, WSGIOptions
from redis_pubsub.contrib.wsgi.pool import PoolFull, ThreadPool

from . import apps
from .client import PATIENCE_S, ask, get, until

pytestmark = pytest.mark.asyncio

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Task:
    """Work that runs until it is told to end."""

    def __init__(self, is_wanted=True):
        self.wanted = is_wanted
        self.started = threading.Event()
        self.may_end = threading.Event()
        self.may_stream = threading.Event()
        self.is_stream = False
        self.abandoned = threading.Event()
        self.discarded = False

    def run(self, announce):
        self.started.set()
        if self.is_stream:
            announce("stream")
            self.abandoned.wait(PATIENCE_S)
        self.may_end.wait(PATIENCE_S)
        return "done"

    def is_wanted(self):
        return self.wanted

    def abandon(self):
        self.abandoned.set()

    def discard(self):
        self.discarded = True


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE_S)


async def test_work_runs_waits_or_is_refused():
    """One thread, one place to wait: the third is refused at once."""
    pool = ThreadPool(threads=1, max_waiting=1, max_streams=1)
    tasks = [Task() for _ in range(3)]

    first, second = pool.submit(tasks[0]), pool.submit(tasks[1])
    with pytest.raises(PoolFull):
        pool.submit(tasks[2])
    for task in tasks:
        task.may_end.set()

    assert await first == await second == "done"
    assert tasks[2].discarded
    await pool.close(PATIENCE_S)


async def test_work_nobody_wants_makes_room():
    """Clients that left do not keep others out, and are not worked for."""
    pool = ThreadPool(threads=1, max_waiting=1, max_streams=1)
    running, left, wanted = Task(), Task(), Task()
    pool.submit(running)
    waiting = pool.submit(left)

    left.wanted = False
    answer = pool.submit(wanted)
    for task in (running, left, wanted):
        task.may_end.set()

    assert await answer == "done"
    with pytest.raises(PoolFull):
        await waiting
    assert left.discarded
    assert not left.started.is_set()
    await pool.close(PATIENCE_S)


async def test_a_stream_makes_room_for_the_next_work():
    """Streams have threads of their own, and a bound of their own."""
    pool = ThreadPool(threads=1, max_waiting=5, max_streams=1)
    stream, page, refused = Task(), Task(), Task()
    stream.is_stream = refused.is_stream = True
    page.may_end.set()

    answers = [pool.submit(task) for task in (stream, page, refused)]

    assert await answers[0] == "stream"
    assert await answers[1] == "done"
    with pytest.raises(PoolFull):
        await answers[2]
    assert refused.abandoned.is_set()
    for task in (stream, refused):
        task.may_end.set()
    await pool.close(PATIENCE_S)
    assert stream.abandoned.is_set()


async def test_closing_waits_only_for_so_long():
    """Work that hangs is counted and left; its thread does not hold the process."""
    pool = ThreadPool(threads=1, max_waiting=1, max_streams=1)
    hanging, waiting = Task(), Task()
    pool.submit(hanging)
    answer = pool.submit(waiting)

    left = await pool.close(0.01)

    assert left == 1
    with pytest.raises(PoolFull):
        await answer
    with pytest.raises(PoolFull):
        pool.submit(Task())
    hanging.may_end.set()


async def test_a_cancelled_waiter_does_not_disturb_the_work():
    """The thread ends its work, and its place is free again."""
    pool = ThreadPool(threads=1, max_waiting=1, max_streams=1)
    first, second = Task(), Task()
    answer = pool.submit(first)
    assert await happened(first.started)

    answer.cancel()
    first.may_end.set()
    second.may_end.set()

    assert await pool.submit(second) == "done"
    await pool.close(PATIENCE_S)


async def test_work_that_raises_does_not_end_its_thread(caplog):
    """A mistake in the work is logged, its waiter hears of it, the next work runs."""
    pool = ThreadPool(threads=1, max_waiting=1, max_streams=1)

    class Broken(Task):
        def run(self, announce):
            raise ValueError("on purpose")

    next_task = Task()
    next_task.may_end.set()

    with pytest.raises(RuntimeError):
        await pool.submit(Broken())
    answer = await pool.submit(next_task)

    assert answer == "done"
    assert caplog.records[0].exc_info is not None
    await pool.close(PATIENCE_S)


async def test_nothing_is_opened_before_the_first_request():
    """A handler may be made before gunicorn forks."""
    before = threading.active_count()

    handler = WSGIHandler(apps.application)

    assert threading.active_count() == before
    await handler.close()


class Gate:
    """An application that counts who is inside, and lets nobody out."""

    def __init__(self):
        self.inside = 0
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.bodies: list[bytes] = []

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/free":
            return apps.echo(environ, start_response)
        self.inside += 1
        self.entered.release()
        self.open.wait(PATIENCE_S)
        self.bodies.append(environ["wsgi.input"].read())
        return apps.echo(environ, start_response)

    async def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.entered.acquire, timeout=PATIENCE_S)


async def test_too_many_requests_get_503_with_retry_after(serve):
    """Two work, one waits, the fourth is told when to come again."""
    gate = Gate()
    server = await serve(gate, threads=2, max_waiting=1, retry_after_s=7)
    first = [asyncio.create_task(ask(server.port, get("/"))) for _ in range(2)]
    await gate.wait_for(2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))
    await until(lambda: server.handler.load.waiting == 1)

    refused = await ask(server.port, get("/"))
    gate.open.set()
    answered = [reply.status for reply in await asyncio.gather(*first)]
    waited = await reader.read()
    writer.close()

    assert refused.status == 503
    assert refused.one("retry-after") == b"7"
    assert answered == [200, 200]
    assert waited.startswith(b"HTTP/1.1 200")


async def test_a_cancelled_request_keeps_its_body_while_the_view_reads_it(serve, caplog):
    """With ``handler_cancellation`` the client's leaving closes nothing under a view."""
    gate = Gate()
    server = await serve(
        gate, memory_body_bytes=10, runner={"handler_cancellation": True}, threads=1
    )
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/", "Content-Length: 1000", method="POST") + b"x" * 1000)
    await gate.wait_for(1)

    writer.transport.abort()
    await until(lambda: not server.runner.server.connections)
    gate.open.set()
    after = await ask(server.port, get("/free"))

    assert gate.bodies == [b"x" * 1000]
    assert after.status == 200
    assert not caplog.records


@pytest.mark.parametrize(("method", "runs"), [("GET", 1), ("POST", 2)])
async def test_a_request_that_waits_while_its_client_leaves(serve, method, runs):
    """A GET is then not run any more; what may change something is."""
    gate = Gate()
    server = await serve(gate, threads=1, runner={"handler_cancellation": True})
    staying = asyncio.create_task(ask(server.port, get("/")))
    await gate.wait_for(1)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/", "Content-Length: 0", method=method))
    await until(lambda: server.handler.load.waiting == 1)

    writer.transport.abort()
    await until(lambda: len(server.runner.server.connections) == 1)
    gate.open.set()
    await staying
    await ask(server.port, get("/free"))

    assert gate.inside == runs


async def test_context_variables_reach_the_application_and_do_not_stay(serve):
    """What a middleware set is there; what a view sets ends with its request."""
    seen = []

    @web.middleware
    async def numbered(request, handler):
        variable.set(request.path)
        return await handler(request)

    def application(environ, start_response):
        seen.append(variable.get())
        variable.set("the view's")
        return apps.echo(environ, start_response)

    server = await serve(application, threads=1, middlewares=[numbered])

    for path in ("/a", "/b"):
        await ask(server.port, get(path))

    assert seen == ["/a", "/b"]


async def test_slow_pages_do_not_hold_up_the_loops_own_threads(serve):
    """``getaddrinfo`` and others keep asyncio's default executor for themselves."""
    gate = Gate()
    server = await serve(gate, threads=8)
    slow = [asyncio.create_task(ask(server.port, get("/"))) for _ in range(8)]
    await gate.wait_for(8)

    names = [thread.name for thread in threading.enumerate()]
    gate.open.set()
    await asyncio.gather(*slow)

    assert sum(name.startswith("redis_pubsub-wsgi-") for name in names) >= 8


async def test_a_closed_handler_answers_503(serve):
    """Requests that come during the shutdown are told to come again."""
    server = await serve(apps.echo)
    await server.handler.close()

    reply = await ask(server.port, get("/"))

    assert reply.status == 503


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"max_waiting": -1},
        {"write_timeout_s": 0},
        {"script_name": "site"},
        {"script_name": "/site/"},
        {"url_scheme": "gopher"},
    ],
)
async def test_options_that_make_no_sense_are_refused(options):
    """A mistake is found at the start, not at the first request."""
    with pytest.raises(ValueError, match=next(iter(options))):
        WSGIOptions(**options)
