"""What an application's answer looks like on the wire.

Every row runs against our handler, against our handler under ``python -O``, and
against gunicorn's threaded worker as the oracle.
"""

from __future__ import annotations

import asyncio

import pytest

from .client import Reply, ask, get, parse, talk

pytestmark = pytest.mark.asyncio

SAME_AS_GUNICORN = [
    "/list",
    "/empty",
    "/generator",
    "/empty-generator",
    "/late",
    "/writes",
    "/length-right",
    "/length-right-generator",
    "/no-reason",
    "/odd-status",
    "/value-utf8",
    "/value-latin",
    "/value-latin-generator",
    "/keep-alive",
    "/cookies",
    "/no-content",
    "/no-content-with-body",
    "/not-modified",
    "/large",
    "/file",
    "/file-without-length",
    "/file-grew",
]

BROKEN_BEFORE_START = [
    "/no-start",
    "/started-twice",
    "/crashes",
    "/exits",
    "/text",
    "/bad-type-in-generator",
    "/length-small",
    "/length-large",
    "/length-text",
    "/length-signed",
    "/length-two",
    "/length-none-yielded",
    "/length-small-generator",
    "/status-text",
    "/status-interim",
    "/reason-newline",
    "/value-newline",
    "/value-nul",
    "/value-wide",
    "/name-colon",
    "/transfer-encoding",
    "/te-and-length",
]

BROKEN_MIDWAY = [
    "/crashes-midway",
    "/length-small-late",
    "/length-large-generator",
    "/file-shrank",
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", SAME_AS_GUNICORN)
async def test_a_good_answer_is_what_gunicorn_sends(
    ours: int, optimized: int, gunicorn: int, path: str, method: str
):
    """Same status, reason, headers and body; framing is each server's own."""
    request = get(path, method=method)

    replies = await asyncio.gather(*(ask(p, request) for p in (ours, optimized, gunicorn)))

    mine, under_o, other = map(compared, replies)
    assert mine == other
    assert under_o == other


def compared(reply: Reply) -> tuple:
    own = {"date", "server", "connection", "transfer-encoding", "content-length"}
    headers = sorted(header for header in reply.headers if header[0] not in own)
    # aiohttp names a type where the application named none.
    headers = [h for h in headers if h != ("content-type", b"application/octet-stream")]
    return reply.status, reply.reason.strip(), headers, reply.body, reply.is_whole


@pytest.mark.parametrize("path", BROKEN_BEFORE_START)
async def test_a_broken_answer_becomes_a_500_and_the_connection_stays_usable(
    ours: int, optimized: int, path: str
):
    """Checked before a byte leaves; the next answer starts where this one ends."""
    requests = get(path, is_last=False) + get("/list")

    for port in (ours, optimized):
        broken = parse(await talk(port, requests))
        following = parse(broken.rest)

        assert broken.status == 500
        assert broken.body == b"internal server error"
        assert (following.status, following.body) == (200, b"hello world")


@pytest.mark.parametrize("path", BROKEN_MIDWAY)
async def test_an_answer_that_breaks_later_is_cut_off(ours: int, optimized: int, path: str):
    """No client takes a part for the whole, and nothing follows on that connection."""
    requests = get(path, is_last=False) + get("/list")

    for port in (ours, optimized):
        try:
            raw = await talk(port, requests)
        except ConnectionResetError:
            continue
        reply = parse(raw)

        assert not reply.is_whole
        assert raw.count(b"HTTP/1.1 ") == 1


async def test_an_application_may_change_its_mind_before_the_first_byte(ours: int):
    """``start_response`` with ``exc_info`` replaces status and headers."""
    reply = await ask(ours, get("/replaced"))

    assert (reply.status, reply.reason, reply.body) == (503, b"Sorry", b"sorry")
    assert reply.all("content-type") == [b"text/plain"]


async def test_a_status_without_a_reason_is_enough(ours: int):
    """``"200"`` is not worth a 500."""
    reply = await ask(ours, get("/status-without-space"))

    assert (reply.status, reply.body) == (200, b"x")


async def test_every_length_of_a_good_answer_is_right(ours: int):
    """With or without ``Content-Length``, ten answers on one connection stay apart."""
    paths = ["/list", "/generator", "/file", "/no-content", "/empty", "/length-right"] * 2
    requests = b"".join(get(p, is_last=False) for p in paths)

    rest = await talk(ours, requests + get("/list"))
    bodies = []
    while rest:
        reply = parse(rest)
        assert reply.is_whole
        bodies.append(reply.body)
        rest = reply.rest

    once = [b"hello world", b"ab", b"0123456789", b"", b"", b"hello"]
    assert bodies == [*once, *once, b"hello world"]


async def test_an_application_may_close_the_connection(ours: int):
    """``Connection: close`` from a view is obeyed, not a crash."""
    requests = get("/connection", is_last=False) + get("/list")

    raw = await talk(ours, requests)

    assert parse(raw).one("connection") == b"close"
    assert raw.count(b"HTTP/1.1 ") == 1


async def test_head_has_the_length_of_the_page_and_no_body(ours: int):
    """For a complete page the length is known, and told."""
    reply = await ask(ours, get("/list", method="HEAD"))

    assert reply.one("content-length") == b"11"
    assert reply.rest == b""


async def test_http_1_0_gets_no_chunks_and_an_end(ours: int):
    """Without a length, the end of the connection is the end, keep-alive or not."""
    request = b"GET /generator HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"

    raw = await talk(ours, request)

    assert b"chunked" not in raw
    assert raw.endswith(b"\r\n\r\nab")
