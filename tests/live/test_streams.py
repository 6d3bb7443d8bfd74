"""The live endpoint for clients without WebSockets: the bytes of two streams."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest

from redis_pubsub.contrib.live import streams
from redis_pubsub.contrib.live.protocol.session import State
from redis_pubsub.contrib.websockets.server import site_application
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.publishing.control import adisconnect
from redis_pubsub.web.connections import Connections

from .raw import Raw
from .stream import CONNECT, Stream, open_stream

NEVER_KEPT = {
    "cache-control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "pragma": "no-cache",
    "x-accel-buffering": "no",
}


@pytest.fixture
async def stream(live):
    return await open_stream(live)


async def test_an_http_stream_is_lines_in_chunks(live):
    """§1: headers at once, uncompressed, uncached; every reply is followed by a newline;
    the reply names session and node."""
    raw = await Raw.open(live)
    await raw.request(
        "POST", "/connection/http_stream", body=CONNECT, Accept_Encoding="gzip"
    )

    assert raw.status == 200
    assert raw.headers["content-type"] == "application/json; charset=utf-8"
    assert raw.headers["transfer-encoding"] == "chunked"
    assert "content-encoding" not in raw.headers
    assert raw.headers.items() >= NEVER_KEPT.items()
    (reply,) = await raw.replies()
    connected = reply["connect"]
    assert connected["client"] and connected["pong"] is True
    assert connected["node"] == live.engine.node and len(connected["session"]) > 32

    stream = Stream(live, raw, connected)
    wish = {"id": 2, "subscribe": {"channel": "room:1"}}
    assert await stream.post(wish) == 204
    assert (await stream.hear())["id"] == 2
    await live.publish("room:1", {"n": 1})
    push = b'{"push":{"channel":"room:1","pub":{"data":{"n":1},"offset":1}}}\n'
    assert await raw.chunk() == push


async def test_server_sent_events_begin_at_once(live):
    """§1: a line's end so that headers leave, then `data:` lines, and no other fields."""
    raw = await Raw.open(live)
    await raw.request("GET", f"/connection/sse?cf_connect={quote(CONNECT)}")

    assert raw.status == 200
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers.items() >= NEVER_KEPT.items()
    assert await raw.chunk() == b"\r\n"
    event = await raw.chunk()
    assert event.startswith(b"data: {") and event.endswith(b"}\n\n")
    connected = json.loads(event.removeprefix(b"data: "))["connect"]

    stream = Stream(live, raw, connected)
    wishes = [{"id": n, "subscribe": {"channel": f"room:{n}"}} for n in (2, 3)]
    assert await stream.post(*wishes) == 204
    lines = (await raw.chunk()).split(b"\n")
    assert lines[-2:] == [b"", b""]
    assert [json.loads(line.removeprefix(b"data: "))["id"] for line in lines[:-2]] == [2, 3]


@pytest.mark.parametrize("kind", ["http_stream", "sse"])
async def test_a_proxy_of_http_1_0_gets_no_chunks(live, kind, until):
    """The end of the connection ends the stream."""
    raw = await Raw.open(live)
    if kind == "sse":
        path = f"/connection/sse?cf_connect={quote(CONNECT)}"
        await raw.request("GET", path, version="1.0")
    else:
        path = "/connection/http_stream"
        await raw.request("POST", path, body=CONNECT, version="1.0")
    assert raw.status == 200 and "transfer-encoding" not in raw.headers
    (connection,) = live.connections
    await until(lambda: connection.session.state is State.CONNECTED)
    await adisconnect(client=connection.id)

    lines = (await raw.rest()).splitlines()

    lines = [line.removeprefix(b"data: ") for line in lines if line]
    first, last = map(json.loads, lines)
    assert first["connect"]["client"] == connection.id
    assert last == {"push": {"disconnect": {"code": 3503, "reason": "force disconnect"}}}


async def test_a_disconnect_is_a_push_and_then_the_end(live, stream, until):
    """§1, §6: the last chunk, and the end of the connection; nothing follows."""
    assert await stream.post({"id": 2, "subscribe": {"channel": "room:1"}}) == 204
    await stream.hear()

    await adisconnect(client=stream.client)

    push = {"disconnect": {"code": 3503, "reason": "force disconnect"}}
    assert await stream.hear() == {"push": push}
    await live.publish("room:1", "late")
    assert await stream.raw.chunk() == b""
    assert await stream.raw.rest() == b""
    await until(lambda: len(live.server) == 0)


REFUSED = [
    (b'{"id":1,"connect":{"token":"junk.of.mine"}}', 3500),
    (b'{"id":1,"subscribe":{"channel":"a"}}', 3501),
    (b"hello", 3501),
    (b"\xff", 3501),
    (b"", 3501),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("body", "code"), REFUSED)
async def test_a_refusal_is_a_push_too(live, body, code):
    """§1: never an HTTP status, after which clients retry for ever."""
    raw = await Raw.open(live)
    await raw.request("POST", "/connection/http_stream", body=body)

    assert raw.status == 200
    (reply,) = await raw.replies()
    assert reply["push"]["disconnect"]["code"] == code
    assert await raw.chunk() == b""


async def test_the_first_frame_may_hold_more_than_the_connect(live):
    """Replies in order, in as many lines."""
    body = CONNECT + b'\n{"id":2,"subscribe":{"channel":"room:1"}}\n'

    raw = (await open_stream(live, body)).raw

    assert (await raw.replies())[0]["id"] == 2


async def test_streams_are_pinged_and_answer_by_posts(serve_live):
    """§7: an empty reply; no answer in time is 3012, as a push."""
    live = await serve_live(limits={"heartbeat_s": 0.3})
    stream = await open_stream(live)

    assert await stream.raw.chunk() == b"{}\n"
    assert await stream.post("{}") == 204
    assert await stream.raw.chunk() == b"{}\n"
    push = {"disconnect": {"code": 3012, "reason": "no pong"}}
    assert await stream.hear() == {"push": push}
    assert await stream.raw.chunk() == b""


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_leaves_is_noticed(live, until):
    """aiohttp does not say; its presence leaves with it."""
    watching = await live.connect()
    await watching.subscribe("joins:1")
    await watching.push("join", "joins:1")
    stream = await open_stream(live)
    assert await stream.post({"id": 2, "subscribe": {"channel": "joins:1"}}) == 204
    assert (await watching.push("join", "joins:1"))["info"]["client"] == stream.client

    stream.raw.close()

    assert (await watching.push("leave", "joins:1"))["info"]["client"] == stream.client
    await until(lambda: len(live.server) == 1)


async def test_what_is_wrong_with_the_request_is_a_status(serve_live):
    """§1: 413 over the limit, 400 without a command, 405 for other methods."""
    live = await serve_live(limits={"live_command_bytes": 1_000})
    large = b'{"id":1,"connect":{"name":"%s"}}' % (b"x" * 1_000)
    requests = [
        ("POST", "/connection/http_stream", large, 413),
        ("GET", "/connection/http_stream", b"", 405),
        ("GET", "/connection/sse", b"", 400),
        ("GET", "/connection/sse?cf_connect=", b"", 400),
        ("POST", "/connection/sse", b"", 405),
        ("GET", "/emulation", b"", 405),
    ]
    for method, path, body, status in requests:
        raw = await Raw.open(live)
        await raw.request(method, path, body=body)
        assert (path, raw.status) == (path, status)
        raw.close()
    assert len(live.server) == 0


async def test_other_methods_do_not_reach_the_sites_pages(serve, site):
    """405 also where Django serves every other path."""
    served = await serve(app=site_application([]))

    for method, path in (
        ("POST", "/connection/websocket"),
        ("POST", "/connection/sse"),
        ("GET", "/connection/http_stream"),
        ("GET", "/emulation"),
    ):
        async with served.http.request(method, served.url + path) as response:
            assert response.status == 405 and response.headers["Allow"]


async def test_a_redis_that_is_down_is_a_503(live, monkeypatch):
    """Posts could not be brought: the client tries again."""

    def down(*args):
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(BrokerUnavailable("Redis is down"))
        return failed

    monkeypatch.setattr(live.engine.hub.broker, "subscribe", down)
    raw = await Raw.open(live)

    await raw.request("POST", "/connection/http_stream", body=CONNECT)

    assert raw.status == 503 and raw.headers["retry-after"]
    monkeypatch.undo()
    await open_stream(live)


# -- ends --------------------------------------------------------------------------------


async def test_a_process_that_ends_says_so_on_streams_too(live, stream):
    """3001 as a push, then the end; who comes meanwhile is told to wait."""
    draining = asyncio.create_task(live.engine.part(Connections).drain(5))

    push = {"disconnect": {"code": 3001, "reason": "shutdown"}}
    assert await stream.hear() == {"push": push}
    assert await stream.raw.chunk() == b""
    await draining
    raw = await Raw.open(live)
    await raw.request("POST", "/connection/http_stream", body=CONNECT)
    assert raw.status == 503


async def test_a_stream_that_is_not_read_is_ended(serve_live, monkeypatch, caplog, until):
    """3008 is the last of what was queued for who reads again; who does not is dropped,
    and nothing of him stays."""
    monkeypatch.setattr(streams, "_END_DEADLINE_S", 0.3)
    rule = {"subscribe": "anyone", "history_size": 1}
    live = await serve_live(limits={"send_buffer_bytes": 50_000}, channels={"big": rule})
    reading, deaf = await open_stream(live), await open_stream(live)
    for stream in (reading, deaf):
        assert await stream.post({"id": 2, "subscribe": {"channel": "big"}}) == 204
        await stream.hear()
        stream.raw.reader._transport.pause_reading()
    while live.engine.metrics["slow_disconnects"] < 2:
        await live.publish("big", "x" * 60_000)

    reading.raw.reader._transport.resume_reading()
    reply = await reading.hear()
    while "disconnect" not in reply["push"]:
        reply = await reading.hear()
    assert reply["push"]["disconnect"] == {"code": 3008, "reason": "slow"}
    assert await reading.raw.chunk() == b""
    await until(lambda: not len(live.engine.part(Connections)))
    assert live.engine.metrics["slow_disconnects"] == 2
    assert "Traceback" not in caplog.text
