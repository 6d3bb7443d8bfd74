"""Request bodies: bounded in bytes, in time and in number."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import threading

import pytest

from . import apps
from .client import PATIENCE_S, ask, get, parse, talk

pytestmark = pytest.mark.asyncio


def post(body: bytes, *lines: str) -> bytes:
    return get("/", f"Content-Length: {len(body)}", *lines, method="POST") + body


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("size", [1, 1000, 4096, 4097, 300_000, 3_000_000])
async def test_a_body_arrives_whole_in_memory_or_in_a_file(serve, size):
    """The application cannot tell which it was."""
    server = await serve(apps.echo, memory_body_bytes=4096)
    body = bytes(n % 251 for n in range(size))

    reply = await ask(server.port, post(body))

    assert reply.json["body"] == digest(body)
    assert reply.json["CONTENT_LENGTH"] == str(size)


async def test_a_body_that_says_it_is_too_long_is_not_read(serve):
    """413 from the header alone, and the connection closes."""
    server = await serve(apps.echo, max_body_bytes=1000)
    request = get("/", "Content-Length: 1001", method="POST", is_last=False)

    reply = await ask_without_body(server.port, request)

    assert reply.status == 413
    assert reply.one("connection") == b"close"


async def ask_without_body(port: int, request: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return parse(head, "HEAD")


async def test_a_chunked_body_that_grows_too_long_is_refused(serve):
    """A body without a length meets the same limit."""
    server = await serve(apps.echo, max_body_bytes=1000)
    request = get("/", "Transfer-Encoding: chunked", method="POST") + (
        b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"
    )

    reply = await ask(server.port, request)

    assert reply.status == 413


async def test_a_body_at_the_limit_is_taken(serve):
    """The limit itself is allowed."""
    server = await serve(apps.echo, max_body_bytes=1000)

    reply = await ask(server.port, post(b"x" * 1000))

    assert reply.status == 200


@pytest.mark.parametrize(
    "options",
    [{"body_silence_s": 0.05}, {"body_timeout_s": 0.05, "body_min_bytes_per_s": 10_000}],
    ids=["silent", "late"],
)
async def test_a_body_that_does_not_come_gets_408(serve, options):
    """A client that sends half a body and stops holds its connection for a short time."""
    server = await serve(apps.echo, **options)
    request = get("/", "Content-Length: 10", method="POST", is_last=False) + b"12345"

    reply = await ask_without_body(server.port, request)

    assert reply.status == 408
    assert reply.one("connection") == b"close"


async def test_a_dripping_body_gets_408_though_it_is_never_silent(serve):
    """One byte at a time does not earn as much time as it takes."""
    server = await serve(apps.echo, body_silence_s=20, body_timeout_s=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/", "Content-Length: 1000000", method="POST"))
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))

    async with asyncio.timeout(PATIENCE_S):
        while not answer.done():
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.01)
    writer.close()

    assert parse(answer.result(), "HEAD").status == 408


async def test_too_many_arriving_bodies_are_refused(serve):
    """Slow senders use up their own limit, and requests without a body go on."""
    server = await serve(apps.echo, max_receiving=1)
    half = get("/", "Content-Length: 10", method="POST") + b"12345"
    slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", server.port)
    slow_writer.write(get("/", "Content-Length: 10", "Expect: 100-continue", method="POST"))
    assert b"100" in await slow_reader.readuntil(b"\r\n\r\n")

    refused = await ask_without_body(server.port, half)
    page = await ask(server.port, get("/"))
    slow_writer.write(b"1234567890")
    finished = parse(await slow_reader.read())

    assert refused.status == 503
    assert refused.one("retry-after") == b"2"
    assert page.status == 200
    assert finished.json["body"] == digest(b"1234567890")


async def test_a_body_nobody_wants_is_refused_before_it_is_sent(serve):
    """``Expect: 100-continue`` gets 413 instead of 100."""
    server = await serve(apps.echo, max_body_bytes=1000)
    request = get("/", "Expect: 100-continue", "Content-Length: 1001", method="POST")

    reply = await ask_without_body(server.port, request)

    assert reply.status == 413


async def test_a_client_that_leaves_during_its_body_is_nobodys_error(serve, caplog):
    """No traceback, no call of the application."""
    called = threading.Event()

    def application(environ, start_response):
        called.set()
        return apps.echo(environ, start_response)

    server = await serve(application)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(get("/", "Expect: 100-continue", "Content-Length: 10", method="POST"))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"12345")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    # Once this is answered, and the server is down, the other one is over too.
    assert (await ask(server.port, get("/list"))).status == 200
    called.clear()
    await server.runner.cleanup()

    assert not called.is_set()
    assert not caplog.records


async def test_a_compressed_body_arrives_as_it_was_sent(serve):
    """The application gets what the header says: 100 MB cannot come out of 100 KB."""
    server = await serve(apps.echo)
    body = gzip.compress(b"x" * 1_000_000)

    environ = (await ask(server.port, post(body, "Content-Encoding: gzip"))).json

    assert environ["body"] == digest(body)
    assert environ["HTTP_CONTENT_ENCODING"] == "gzip"


async def test_under_a_server_that_inflates_header_and_limit_still_hold(serve):
    """Where aiohttp inflates bodies, the header goes and the limit counts what came."""
    server = await serve(
        apps.echo, max_body_bytes=100_000, runner={"auto_decompress": True}
    )
    small, bomb = gzip.compress(b"x" * 1000), gzip.compress(b"x" * 10_000_000)

    environ = (await ask(server.port, post(small, "Content-Encoding: gzip"))).json
    refused = await ask(server.port, post(bomb, "Content-Encoding: gzip"))
    broken = await ask(server.port, post(b"no gzip", "Content-Encoding: gzip"))

    assert environ["body"] == digest(b"x" * 1000)
    assert environ["CONTENT_LENGTH"] == "1000"
    assert "HTTP_CONTENT_ENCODING" not in environ
    assert refused.status == 413
    assert broken.status == 400


async def test_malformed_chunks_are_a_400(serve):
    """Never a 500, and never the application's business."""
    server = await serve(apps.echo)
    request = get("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\nabc\r\n"

    raw = await talk(server.port, request)

    assert raw.split(b" ", 2)[1] == b"400"
