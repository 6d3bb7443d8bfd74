"""Bodies that are made while they are sent.

Applications here wait for events that the test sets, so that "the first byte came
before the last was made" is an order and not a measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading

import pytest

from . import apps
from .client import PATIENCE_S, ask, get, until

pytestmark = pytest.mark.asyncio


class Source:
    """A body whose blocks the test releases one by one."""

    def __init__(self, blocks, headers=apps.TEXT):
        self.blocks = list(blocks)
        self.headers = headers
        self.made = 0
        self.gates = [threading.Event() for _ in self.blocks]
        self.closed = threading.Event()

    def __call__(self, environ, start_response):
        start_response("200 OK", self.headers)
        return self

    def __iter__(self):
        for block, gate in zip(self.blocks, self.gates, strict=True):
            assert gate.wait(PATIENCE_S)
            self.made += 1
            yield block

    def open_all(self):
        for gate in self.gates:
            gate.set()

    def close(self):
        self.closed.set()


class Endless:
    """Yields until somebody stops it."""

    def __init__(self, block=apps.BLOCK):
        self.block = block
        self.made = 0
        self.stopped = threading.Event()
        self.closed = threading.Event()

    def __call__(self, environ, start_response):
        start_response("200 OK", apps.TEXT)
        return self

    def __iter__(self):
        try:
            while True:
                self.made += 1
                yield self.block
        finally:
            self.stopped.set()

    def close(self):
        self.closed.set()


async def happened(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, PATIENCE_S)


async def test_each_block_arrives_before_the_next_is_made(serve):
    """Server-sent events work: nothing waits for company."""
    source = Source([b"one", b"two", b"three"])
    server = await serve(source)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))

    seen = []
    for gate, block in zip(source.gates, source.blocks, strict=True):
        gate.set()
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(block)
        seen.append(source.made)
    rest = await reader.read()
    writer.close()

    assert seen == [1, 2, 3]
    assert rest.endswith(b"0\r\n\r\n")
    assert await happened(source.closed)


async def test_a_client_that_leaves_ends_the_generator(serve):
    """The next block is the last, and ``close()`` is called."""
    source = Endless()
    server = await serve(source)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))
    await reader.readexactly(100_000)

    writer.transport.abort()

    assert await happened(source.closed)


async def test_a_client_that_leaves_a_quiet_stream_is_noticed_at_the_next_block(
    serve,
):
    """A quiet stream is not interrupted, but it does not run on either."""
    source = Source([b"one", b"two", b"three", b"four"])
    server = await serve(source, runner={"handler_cancellation": True})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))
    source.gates[0].set()
    await reader.readuntil(b"one")

    writer.transport.abort()
    await until(lambda: not server.runner.server.connections)
    source.open_all()

    assert await happened(source.closed)
    assert source.made < 4


async def test_a_client_that_does_not_read_stops_the_generator_from_running_ahead(serve):
    """A few blocks are on their way, not the whole body."""
    source = Endless(b"x" * 262_144)
    server = await serve(source)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(get("/"))
    await reader.readexactly(10)

    before = -1
    while before != source.made:
        before = source.made
        # While others are served, the generator stands still.
        for _ in range(50):
            assert (await ask_alive(server)).status == 400
    writer.transport.abort()

    assert source.made * 262_144 < 20_000_000
    assert await happened(source.closed)


async def ask_alive(server):
    """A request that a thread never sees."""
    return await ask(server.port, get("/", "Content-Type: a", "Content-Type: b"))


async def test_a_client_that_takes_nothing_is_dropped(serve):
    """After ``write_timeout_s`` the connection is cut and the thread is free."""
    source = Endless()
    server = await serve(source, write_timeout_s=0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(get("/"))

    assert await happened(source.closed)
    writer.close()


async def test_a_client_that_takes_nothing_of_a_whole_page_is_dropped(serve):
    """Large pages do not stay in memory for a client that never reads."""
    page = apps.answering("200 OK", apps.TEXT, lambda: [b"x" * 30_000_000])
    server = await serve(page, write_timeout_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(get("/"))
    await reader.readexactly(10)

    await until(lambda: not server.runner.server.connections)

    # What the kernels held still arrives, the rest never does.
    received = 0
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1_000_000):
            received += len(block)
    writer.close()
    assert received < 30_000_000


async def test_head_makes_no_block(serve):
    """The body of a HEAD is not computed to be thrown away; it is closed, though."""
    source = Source([b"one"])
    server = await serve(source)

    reply = await ask(server.port, get("/", method="HEAD"))

    assert reply.status == 200
    assert source.made == 0
    assert await happened(source.closed)


async def test_files_are_read_in_large_blocks(serve):
    """``wsgi.file_wrapper`` reads 256 KiB at a time, whatever Django asks for."""
    sizes = []

    class File(io.BytesIO):
        def read(self, size=-1):
            sizes.append(size)
            return super().read(size)

    file = File(b"x" * 600_000)

    def application(environ, start_response):
        start_response("200 OK", apps.TEXT)
        return environ["wsgi.file_wrapper"](file, 4096)

    server = await serve(application)

    reply = await ask(server.port, get("/"))

    assert reply.body == b"x" * 600_000
    assert set(sizes) == {262_144}
    assert file.closed


async def test_a_wrapped_page_with_a_length_is_no_stream(serve):
    """Middleware that turns pages into generators does not use up the streams."""
    streaming = Endless()

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/stream":
            return streaming(environ, start_response)
        start_response("200 OK", apps.length("4"))
        return (block for block in [b"page"])

    server = await serve(application, max_streams=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/stream"))
    await reader.readexactly(100)

    page = await ask(server.port, get("/"))
    refused = await ask(server.port, get("/stream"))
    writer.transport.abort()

    assert (page.status, page.body) == (200, b"page")
    assert refused.status == 503
    assert refused.one("retry-after") == b"2"


async def test_streams_leave_the_threads_to_pages(serve):
    """With one thread and endless downloads running, pages are served."""
    source = Endless()

    def application(environ, start_response):
        app = source if environ["PATH_INFO"] == "/stream" else apps.echo
        return app(environ, start_response)

    server = await serve(application, threads=1, max_streams=3)
    streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    for reader, writer in streams:
        writer.write(get("/stream"))
        await reader.readexactly(100)

    page = await ask(server.port, get("/"))
    for _, writer in streams:
        writer.transport.abort()

    assert page.status == 200


async def test_closing_the_handler_ends_a_quiet_stream_at_once(serve):
    """The client sees a cut, though the generator has not come to its next block."""
    source = Source([b"one", b"two"])
    server = await serve(source, close_timeout_s=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/"))
    source.gates[0].set()
    await reader.readuntil(b"one")

    await server.handler.close()
    with contextlib.suppress(ConnectionResetError):
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()
    source.open_all()

    assert await happened(source.closed)


async def test_an_error_in_close_is_logged_and_the_page_stays_right(serve, caplog):
    """What was made before the mistake is still sent."""

    class Page(list):
        def close(self):
            raise ValueError("on purpose")

    server = await serve(apps.answering("200 OK", apps.TEXT, lambda: Page([b"x"])))

    reply = await ask(server.port, get("/"))

    assert (reply.status, reply.body) == (200, b"x")
    assert [r.name for r in caplog.records] == ["redis_pubsub.wsgi"]


async def test_errors_are_logged_with_their_traceback_and_an_escaped_path(serve, caplog):
    """A request cannot write lines of its own into the log."""
    server = await serve(apps.crashes)

    reply = await ask(server.port, get("/a%1b[31m"))

    (record,) = caplog.records
    assert reply.status == 500
    assert record.name == "redis_pubsub.wsgi"
    assert record.exc_info is not None
    assert record.getMessage() == "GET '/a%1b[31m' failed"


async def test_a_hundred_megabytes_to_a_slow_reader_leave_memory_flat(ours: int):
    """Memory grows by some blocks, not by the body (nor by the body twice)."""
    before = int((await ask(ours, get("/peak"))).body)
    reader, writer = await asyncio.open_connection("127.0.0.1", ours, limit=4096)
    writer.write(get("/hundred-megabytes"))

    received = 0
    while block := await reader.read(65_536):
        received += len(block)
    writer.close()
    after = int((await ask(ours, get("/peak"))).body)

    assert received > 100_000_000
    assert after - before < 30_000
