"""Nobody can exhaust the process through a handler: who may come, and how much."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from rest_framework.authtoken.models import Token

from redis_pubsub.contrib.websockets import websocket
from redis_pubsub.web.admission import Admission
from tests.live.raw import Raw

pytestmark = pytest.mark.django_db(transaction=True)


@websocket("/echo")
async def echo(ws, params):
    async for message in ws:
        await ws.send_str(message.data)


@websocket("/mine", authenticate=True)
async def mine(ws, params, user):
    async for message in ws:
        await ws.send_str(message.data)


@pytest.fixture
def serve_limited(serve, settings, site):
    """Serve: ``served = await serve_limited(connections=2)``. Clients on this machine are
    counted by their address like any other."""

    async def start(trusted_proxies=(), **limits):
        settings.REDIS_PUBSUB = site | {
            "limits": limits,
            "trusted_proxies": trusted_proxies,
        }
        return await serve(echo, mine)

    return start


async def refused(served, path="/echo/", **options):
    """The answer to a handshake that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await served.connect(path, **options)
    return caught.value


async def is_served(ws):
    await ws.send_str("still there?")
    return await ws.receive_str(timeout=5) == "still there?"


# -- who may come ------------------------------------------------------------------------


async def test_a_full_process_answers_503_and_serves_those_it_has(serve_limited, until):
    """Until one of them leaves."""
    served = await serve_limited(connections=2)
    first, second = [await served.connect("/echo/") for _ in range(2)]

    answer = await refused(served)
    assert await is_served(first)
    await second.close()
    await until(lambda: len(served.engine.part(Admission)) == 1)
    third = await served.connect("/echo/")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert await is_served(third)
    assert served.engine.metrics["process_full_refused"] == 1


async def test_who_comes_too_fast_is_told_when_to_come_again(serve_limited):
    """The burst passes; then it is the rate."""
    served = await serve_limited(connects_per_s=0.05, connects_burst=2)
    sockets = [await served.connect("/echo/") for _ in range(2)]

    answer = await refused(served)

    assert answer.status == 503
    assert 15 <= int(answer.headers["Retry-After"]) <= 20
    assert await is_served(sockets[0])
    assert served.engine.metrics["process_rate_refused"] == 1


async def test_one_address_cannot_have_all_places(serve_limited):
    """Another address is served meanwhile."""
    served = await serve_limited(("127.0.0.1",), address_connections=2)
    mallory = {"headers": {"X-Forwarded-For": "203.0.113.5"}}
    hers = [await served.connect("/echo/", **mallory) for _ in range(2)]

    answer = await refused(served, **mallory)
    other = await served.connect("/echo/", headers={"X-Forwarded-For": "203.0.113.6"})

    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    assert await is_served(other) and await is_served(hers[0])
    assert served.engine.metrics["address_full_refused"] == 1


async def test_an_address_cannot_make_itself_another(serve_limited):
    """Its own X-Forwarded-For is nobody's word."""
    served = await serve_limited(address_connections=1)
    first = await served.connect("/echo/", headers={"X-Forwarded-For": "198.51.100.1"})

    answer = await refused(served, headers={"X-Forwarded-For": "198.51.100.2"})

    assert await is_served(first)
    assert answer.status == 429


async def test_one_address_cannot_come_too_often(serve_limited, until):
    """Also when it leaves at once each time."""
    served = await serve_limited(address_connects_per_s=0.05, address_connects_burst=3)
    for _ in range(3):
        await (await served.connect("/echo/")).close()

    answer = await refused(served)

    assert answer.status == 429
    assert 15 <= int(answer.headers["Retry-After"]) <= 20
    assert served.engine.metrics["address_rate_refused"] == 1


async def test_what_comes_from_the_proxy_itself_has_no_limit_of_an_address(serve_limited):
    """A proxy that forwards no address must not lock all its clients out."""
    served = await serve_limited(
        ("127.0.0.1",), address_connections=1, address_connects_burst=1
    )

    sockets = [await served.connect("/echo/") for _ in range(5)]

    assert all([await is_served(ws) for ws in sockets])


async def test_one_user_has_so_many_sockets(serve_limited, user, other_user):
    """Others have their own."""
    served = await serve_limited(user_connections=2)
    token, other = [
        (await Token.objects.acreate(user=each)).key for each in (user, other_user)
    ]
    his = {"headers": {"Authorization": f"Token {token}"}}
    kept = [await served.connect("/mine/", **his) for _ in range(2)]

    answer = await refused(served, "/mine/", **his)
    others = await served.connect("/mine/", headers={"Authorization": f"Token {other}"})

    assert answer.status == 429
    assert await is_served(others) and await is_served(kept[0])
    assert served.engine.metrics["user_full_refused"] == 1


async def test_nothing_of_those_who_left_or_were_refused_stays(serve_limited, until, user):
    """A count that only grows would refuse everybody one day."""
    served = await serve_limited(user_connections=1)
    token = (await Token.objects.acreate(user=user)).key
    ws = await served.connect("/mine/", headers={"Authorization": f"Token {token}"})
    for bad in (token, "bad", ""):
        await refused(served, "/mine/", headers={"Authorization": f"Token {bad}"})

    await ws.close()

    admission = served.engine.part(Admission)
    await until(lambda: len(admission) == 0)
    assert not admission._addresses
    assert not admission._users


# -- how much ----------------------------------------------------------------------------


@pytest.fixture
def raw(serve_limited):
    """A client that writes bytes, and a well-behaved one beside it."""

    async def start(**limits):
        served = await serve_limited(**limits)
        client = await Raw.open(SimpleNamespace(served=served))
        await client.upgrade("/echo/")
        return served, client, await served.connect("/echo/")

    return start


async def last_frame(client):
    """The close that ends a client, whatever came before."""
    while True:
        found = await client.frame()
        assert found is not None, "closed without a word"
        if found[0] == 0x88:
            return int.from_bytes(found[1][:2], "big"), found[1][2:]


FLOODS = {
    "messages": (bytes([0x81, 0x81]) + bytes(4) + b"x", 2_000_000),
    "pings": (bytes([0x89, 0x80]) + bytes(4), 2_000_000),
    "pongs": (bytes([0x8A, 0x80]) + bytes(4), 2_000_000),
    "empty continuations": (bytes([0x00, 0x80]) + bytes(4), 2_000_000),
    "large messages": (
        bytes([0x82, 0xFF]) + (1 << 20).to_bytes(8, "big") + bytes(4 + (1 << 20)),
        60,
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_is_cut_off_and_the_others_are_served(raw, kind):
    """With the limits as they are by default."""
    served, client, other = await raw(receive_messages=10**6, receive_bytes=10**9)
    frame, count = FLOODS[kind]
    begin = bytes([0x01, 0x80]) + bytes(4) if kind == "empty continuations" else b""

    async def flood():
        piece = frame * max(1, 65_536 // len(frame))
        client.writer.write(begin)
        try:
            for _ in range(count * len(frame) // len(piece)):
                client.writer.write(piece)
                await client.writer.drain()
        except ConnectionError:
            return
        raise AssertionError("all of it was taken")

    async def read():
        while await client.frame() is not None:
            pass

    await asyncio.gather(flood(), read())

    assert served.engine.metrics["flood_disconnects"] == 1
    assert await is_served(other)


async def test_who_floods_and_stops_sees_why(raw):
    """3013, which means: come back, more slowly."""
    _, client, other = await raw(control_frames_burst=5, control_frames_per_s=0.01)

    for _ in range(6):
        client.send_frame(b"", 0x89)
    code, reason = await last_frame(client)
    client.send_frame(b"\x03\xe8", 0x88)

    assert (code, reason) == (3013, b"too many requests")
    await client.rest()
    assert await is_served(other)


async def test_who_floods_again_and_again_is_soon_not_let_in(raw, until):
    """A flood costs its address twenty connects."""
    served, client, other = await raw(
        control_frames_burst=5,
        control_frames_per_s=0.01,
        address_connects_burst=25,
        address_connects_per_s=0.01,
    )

    for _ in range(6):
        client.send_frame(b"", 0x89)
    await last_frame(client)
    client.close()
    await until(lambda: len(served.engine.part(Admission)) == 1)
    answers = [await Raw.open(SimpleNamespace(served=served)) for _ in range(5)]
    statuses = [(await each.upgrade("/echo/")).status for each in answers]

    assert statuses == [101, 101, 101, 429, 429]
    assert await is_served(other)


async def test_a_client_within_its_rate_is_never_cut_off(raw):
    """The burst fills up again."""
    _, client, _ = await raw(messages_burst=2, messages_per_s=200)

    for _ in range(20):
        client.send_frame(b"x")
        assert await client.frame() == (0x81, b"x")
        await asyncio.sleep(0.01)


async def test_a_client_that_takes_nothing_is_closed_within_the_deadline(
    serve, settings, site, until
):
    """Whether or not anything more is sent to it, and long before its buffer is full."""

    @websocket("/pour")
    async def pour(ws, params):
        ws.send_str("x" * 8_000_000)
        await ws.receive()

    settings.REDIS_PUBSUB = site | {
        "limits": {"write_deadline_s": 0.4, "send_buffer_bytes": 100_000_000}
    }
    served = await serve(pour, echo)
    client = await Raw.open(SimpleNamespace(served=served), limit=1_024)
    await client.upgrade("/pour/")
    other = await served.connect("/echo/")

    await until(lambda: served.engine.metrics["stalled_disconnects"])

    assert await is_served(other)
    client.close()


async def test_a_slow_reader_that_goes_on_reading_is_not_stalled(
    serve, settings, site, until
):
    """What the kernel acknowledges counts, although more is added all the time."""

    @websocket("/pour")
    async def pour(ws, params):
        while not ws.is_closing:
            ws.send_str("x" * 500_000)
            await asyncio.sleep(0.02)

    settings.REDIS_PUBSUB = site | {
        "limits": {"write_deadline_s": 0.4, "send_buffer_bytes": 1_000_000_000}
    }
    served = await serve(pour)
    client = await Raw.open(SimpleNamespace(served=served), limit=1_024)
    await client.upgrade("/pour/")

    async with asyncio.timeout(10):
        for _ in range(30):
            await client.reader.readexactly(100_000)
            await asyncio.sleep(0.05)

    assert served.engine.metrics["stalled_disconnects"] == 0
    client.close()


@websocket("/kept")
async def kept(ws, params):
    protocol = ws._transport.get_protocol()
    async for _ in ws:
        await ws.send_json([protocol._parser is None, protocol._messages.maxlen])


async def test_an_open_socket_keeps_nothing_of_http(serve):
    """aiohttp's parser and queue of requests are a kilobyte and a half of each."""
    ws = await (await serve(kept)).connect("/kept/")
    await ws.send_str("what is there?")

    assert await ws.receive_json(timeout=5) == [True, 0]
