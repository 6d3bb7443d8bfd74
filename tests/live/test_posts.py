"""The way up beside a stream: who may post, what, and from which page."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from redis_pubsub.contrib.live import emulation

from .raw import Raw
from .stream import CONNECT, open_stream


@pytest.fixture
async def stream(live):
    return await open_stream(live)


async def test_posts_are_carried_out_in_the_order_they_came(serve_live):
    """§1: one session's commands, also where an earlier one takes its time."""
    gate = asyncio.Event()
    taken = []
    from redis_pubsub.contrib.live import on_message

    @on_message
    async def take(user, data):
        await gate.wait()
        taken.append(data)

    live = await serve_live(take)
    stream = await open_stream(live)

    for n in range(20):
        assert await stream.post({"send": {"data": n}}, {"id": n + 2, "ping": {}}) == 204
    gate.set()

    heard = [await stream.hear() for _ in range(20)]
    assert [reply["id"] for reply in heard] == [*range(2, 22)]
    assert taken == [*range(20)]


async def test_a_client_that_posts_faster_than_it_is_served_is_ended(serve_live):
    """What waits is bounded: 3013, from which it comes back."""
    gate = asyncio.Event()
    from redis_pubsub.contrib.live import on_message
    from redis_pubsub.contrib.live.streams import POSTS_WAITING

    @on_message
    async def take(user, data):
        await gate.wait()

    live = await serve_live(take)
    stream = await open_stream(live)

    for _ in range(POSTS_WAITING + 2):
        assert await stream.post({"send": {"data": 1}}) == 204

    push = {"disconnect": {"code": 3013, "reason": "too many requests"}}
    assert await stream.hear() == {"push": push}
    gate.set()
    assert await stream.raw.chunk() == b""


MALFORMED = [
    b"",
    b"hello",
    b"[]",
    b"{}",
    b"\xff",
    b'{"session":"a","node":"b"}',
    b'{"session":1,"node":"b","data":""}',
    b'{"session":"\\ud800","node":"b","data":""}',
    b'{"session":"a","node":"b","data":{}}',
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_post_is_a_400(live, body):
    """§1."""
    async with live.http.post(live.url + "/emulation", data=body) as response:
        assert response.status == 400


async def test_a_post_speaks_for_its_own_stream_only(live, stream):
    """403: another session's name, one made up, one signed for another process."""
    other = await open_stream(live)
    secret, _, signature = stream.session.partition(".")
    _, _, others = other.session.partition(".")

    assert await stream.post("{}") == 204
    for changes in (
        {"session": ""},
        {"session": secret},
        {"session": f"{secret}."},
        {"session": f"{secret}.{others}"},
        {"session": f"x{secret}.{signature}"},
        {"session": f"{secret}.é"},
        {"node": "elsewhere"},
        {"node": ""},
    ):
        assert await stream.post("{}", **changes) == 403


async def test_another_browser_that_knows_the_name_may_not_post(live):
    """The name is bound to the session cookie of the browser that opened the stream."""
    headers = {"Cookie": "sessionid=abc", "Origin": live.url}
    stream = await open_stream(live, **headers)
    assert await stream.post("{}") == 204

    stream.headers = {"Cookie": "sessionid=other", "Origin": live.url}
    assert await stream.post("{}") == 403
    stream.headers = {}
    assert await stream.post("{}") == 403


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_a_browser_that_has_another_session_by_now_comes_back(
    serve_live, is_elsewhere
):
    """After a login or logout its posts are refused, in whichever process, and its stream
    ends with 3011: it does not stay as who it was, deaf to its own commands."""
    live = await serve_live()
    other = await serve_live() if is_elsewhere else live
    stream = await open_stream(live, Cookie="sessionid=before", Origin=live.url)

    stream.headers = {"Cookie": "sessionid=after", "Origin": other.url}
    assert await stream.post("{}", url=other.url) == 403

    push = {"disconnect": {"code": 3011, "reason": "force reconnect"}}
    assert await stream.hear() == {"push": push}
    assert await stream.raw.chunk() == b""


async def test_a_post_has_a_largest_size(serve_live):
    """413, measured as bytes of commands."""
    live = await serve_live(limits={"live_command_bytes": 1_000})
    stream = await open_stream(live)

    assert await stream.post("{}" + "\n" * 998) == 204
    for data in ("x" * 1_001, "é" * 501, '"' * 2_000):
        assert await stream.post(data) == 413


async def test_an_empty_post_is_a_bad_frame(stream):
    """As on a socket: 3501."""
    assert await stream.post("") == 204
    assert (await stream.hear())["push"]["disconnect"]["code"] == 3501


async def test_a_session_that_has_just_ended_takes_posts(live, stream, until):
    """§1: 204: its stream tells the client."""
    stream.raw.close()
    await until(lambda: len(live.server) == 0)

    assert await stream.post("{}") == 204


async def test_a_post_may_reach_any_process(serve_live, until):
    """§1: it is brought to the one with the stream, in order; 404 once that is gone."""
    first, second = await serve_live(), await serve_live()
    stream = await open_stream(first)
    assert stream.node == first.engine.node

    for n in range(2, 12):
        assert await stream.post({"id": n, "ping": {}}, url=second.url) == 204
    assert [(await stream.hear())["id"] for _ in range(10)] == [*range(2, 12)]
    assert len(second.server) == 0

    await first.engine.close()
    status = 204
    while status == 204:
        status = await stream.post("{}", url=second.url)
    assert status == 404
    stream.raw.close()


# -- origins -----------------------------------------------------------------------------


async def test_pages_of_allowed_origins_may_read(serve_live):
    """§1: what a browser wants to see; a foreign page gets 403 everywhere."""
    live = await serve_live(allowed_origins=["https://app.example"])
    ours, foreign = "https://app.example", "https://evil.example"

    stream = await open_stream(live, Origin=ours)
    for headers in (stream.raw.headers,):
        assert headers["access-control-allow-origin"] == ours
        assert headers["access-control-allow-credentials"] == "true"
    assert await stream.post("{}") == 204
    for path in ("/connection/http_stream", "/emulation"):
        raw = await Raw.open(live)
        asked = {"Access_Control_Request_Headers": "content-type,x-a"}
        await raw.request("OPTIONS", path, Origin=ours, **asked)
        assert raw.status == 204
        assert raw.headers["access-control-allow-origin"] == ours
        assert raw.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert raw.headers["access-control-max-age"] == "300"
        assert raw.headers["access-control-allow-headers"] == "content-type,x-a"
        raw.close()

    for method, path in (
        ("OPTIONS", "/emulation"),
        ("POST", "/emulation"),
        ("POST", "/connection/http_stream"),
        ("GET", f"/connection/sse?cf_connect={quote(CONNECT)}"),
    ):
        raw = await Raw.open(live)
        await raw.request(method, path, body=CONNECT, Origin=foreign)
        assert raw.status == 403
        assert "access-control-allow-origin" not in raw.headers
        raw.close()


@pytest.mark.parametrize(
    ("proxies", "most", "status"),
    [([], 8, 429), (["127.0.0.0/8"], 1, 503)],
    ids=["of an address", "of all"],
)
async def test_bodies_that_are_on_their_way_are_bounded(
    serve_live, monkeypatch, proxies, most, status
):
    """Nobody knows yet whether they are posts: who sends none of it has one of a few
    places, and others are told to try again."""
    monkeypatch.setattr(emulation, "ARRIVING", most)
    live = await serve_live(trusted_proxies=proxies)
    stream = await open_stream(live)
    waiting = await Raw.open(live)
    head = f"POST /emulation HTTP/1.1\r\nHost: {live.url[7:]}\r\nContent-Length: 9\r\n"
    waiting.writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    async with asyncio.timeout(5):
        await waiting.reader.readuntil(b"\r\n\r\n")
        while (refused := await stream.post("{}")) == 204:
            await asyncio.sleep(0.01)
        waiting.close()
        while await stream.post("{}") != 204:
            await asyncio.sleep(0.01)

    assert refused == status
    assert live.engine.metrics["posts_refused"]
