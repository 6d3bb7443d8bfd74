"""Connections as they come in: the straight way of sockets, and aiohttp's for all else."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from redis_pubsub.contrib.live.connection import Connection
from redis_pubsub.contrib.live.websocket import websocket as live_websocket
from redis_pubsub.contrib.websockets import websocket
from redis_pubsub.contrib.websockets.server import make_runner
from redis_pubsub.web import upgrade
from redis_pubsub.web.admission import Admission
from redis_pubsub.web.connections import Connections
from redis_pubsub.web.keys import SOCKETS
from tests.live.raw import Raw

pytestmark = pytest.mark.django_db(transaction=True)

CONNECT = b'{"id":1,"connect":{}}'
WHOLE = (
    b"GET /connection/websocket?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PATH = b"GET /connection/websocket"
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""To that key; source: RFC 6455, section 1.3."""


@pytest.fixture
def straight(monkeypatch):
    """How many sockets went the straight way, and how many through aiohttp."""
    ways = {"straight": 0, "aiohttp": 0}
    known = upgrade.answer

    def answer(request, protocol):
        ways["straight"] += 1
        return known(request, protocol)

    def take_over(request, opening):
        ways["aiohttp"] += 1
        return upgrade.take_over(request, opening)

    monkeypatch.setattr("redis_pubsub.web.entrance.answer", answer)
    monkeypatch.setattr("redis_pubsub.contrib.live.websocket.take_over", take_over)
    return ways


@pytest.fixture
def serve_open(serve, settings, site):
    async def start(*handlers, **options):
        settings.REDIS_PUBSUB = site | {"live": {"anonymous": True}}
        return await serve(*handlers, run=make_runner, **options)

    return start


class Site:
    def __init__(self, served):
        self.served = served


async def connected(raw):
    """Says connect, and gives the answer."""
    raw.send_frame(CONNECT)
    return json.loads((await raw.frame())[1])


async def test_a_whole_handshake_is_answered_on_the_spot(serve_open, straight):
    """With the key that the standard has as its example."""
    served = await serve_open()
    raw = await Raw.open(Site(served))

    raw.writer.write(WHOLE)
    head = (await raw.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")

    assert head[0] == "HTTP/1.1 101 Switching Protocols"
    assert f"Sec-WebSocket-Accept: {ACCEPTED}" in head
    assert (await connected(raw))["id"] == 1
    assert straight == {"straight": 1, "aiohttp": 0}
    raw.close()


async def test_what_comes_behind_the_handshake_is_heard(serve_open, straight):
    """In the same packet: the standard forbids it to nobody who does not care."""
    served = await serve_open()
    raw = await Raw.open(Site(served))
    frame = bytes([0x81, 0x80 | len(CONNECT)]) + bytes(4) + CONNECT

    raw.writer.write(WHOLE + frame)
    await raw.reader.readuntil(b"\r\n\r\n")

    assert json.loads((await raw.frame())[1])["id"] == 1
    assert straight["straight"] == 1
    raw.close()


@pytest.mark.parametrize(
    "cut", [1, 20, len(PATH) - 1, len(PATH), len(PATH) + 1, len(WHOLE) - 1]
)
async def test_a_handshake_in_pieces_goes_through_aiohttp(
    serve_open, straight, cut, until, caplog
):
    """Which waits for the rest of it, wherever it is cut; the socket is the same."""
    served = await serve_open()
    raw = await Raw.open(Site(served))

    raw.writer.write(WHOLE[:cut])
    await until(lambda: served.runner.server.connections)
    raw.writer.write(WHOLE[cut:])
    await raw.reader.readuntil(b"\r\n\r\n")

    assert (await connected(raw))["id"] == 1
    assert straight == {"straight": 0, "aiohttp": 1}
    assert "Traceback" not in caplog.text
    raw.close()


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("asks", [{}, HANDSHAKE])
async def test_a_request_with_a_body_is_answered(serve_open, straight, caplog, size, asks):
    """No handshake has one; it is for aiohttp to say so."""
    served = await serve_open()
    raw = await Raw.open(Site(served))

    await raw.request("GET", "/connection/websocket", body=b"x" * size, **asks)

    assert raw.status == (400 if asks else 426)
    assert "Traceback" not in caplog.text
    assert straight["straight"] == 0
    raw.close()


async def test_the_name_of_a_longer_path_is_another(serve_open, straight):
    """``/connection/websockets`` is nobody's."""
    served = await serve_open()
    async with served.http.get(served.url + "/connection/websockets") as response:
        assert response.status == 404
    raw = await Raw.open(Site(served))
    await raw.upgrade("/connection/websocket2")
    assert raw.status == 404
    assert straight["straight"] == 0
    raw.close()


async def test_a_site_with_middlewares_sees_every_handshake(serve_open, straight, settings):
    """Whatever stands before the handlers stands before sockets too."""
    seen = []

    @web.middleware
    async def note(request, handler):
        seen.append(request.path)
        return await handler(request)

    from redis_pubsub.contrib.websockets import setup

    settings.REDIS_PUBSUB = settings.REDIS_PUBSUB | {"live": {"anonymous": True}}
    app = setup(handlers=[])
    app.middlewares.append(note)
    served = await serve_open(app=app)
    raw = await Raw.open(Site(served))

    await raw.upgrade()

    assert raw.status == 101 and seen == ["/connection/websocket"]
    assert (await connected(raw))["id"] == 1
    assert straight == {"straight": 0, "aiohttp": 1}
    raw.close()


async def test_a_handler_of_the_site_may_stand_before_it(serve_open, straight):
    """The router decides, not the entrance."""

    @websocket("/connection/websocket", authenticate=False)
    async def mine(ws, params):
        await ws.send_str("mine")

    served = await serve_open(mine)
    ws = await served.connect("/connection/websocket")

    assert (await ws.receive_str()) == "mine"
    assert straight["straight"] == 0
    await ws.close()


async def test_a_mistake_of_ours_is_a_500_with_a_traceback(serve_open, monkeypatch, caplog):
    """Not a connection that is dropped without a word."""
    served = await serve_open()

    def broken(self, request):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("redis_pubsub.web.handshake.Gatekeeper.inspect", broken)
    raw = await Raw.open(Site(served))
    await raw.upgrade()

    assert raw.status == 500
    assert "a mistake" in caplog.text
    assert len(served.engine.part(Admission)) == 0
    raw.close()


async def test_what_is_refused_is_counted_once(serve_open, settings, until):
    """Although aiohttp writes the answer: limits and counters have seen one client."""
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    served = await serve_open()
    raw = await Raw.open(Site(served))

    await raw.upgrade(Origin="https://elsewhere.example")

    assert raw.status == 403
    assert served.engine.metrics["handshakes_refused"] == 1
    assert await raw.rest() is not None
    assert len(served.engine.part(Admission)) == 0


async def test_a_handshake_is_a_request_as_gunicorn_counts_them(
    serve, settings, site, straight
):
    """Its ``max_requests`` ends workers that serve nothing but sockets as well."""
    settings.REDIS_PUBSUB = site | {"live": {"anonymous": True}}
    runners = []

    def run(app):
        runners.append(make_runner(app))
        return runners[0]

    served = await serve(run=run)
    for _ in range(3):
        raw = await Raw.open(Site(served))
        assert (await raw.upgrade()).status == 101
        raw.close()

    assert straight["straight"] == 3
    assert runners[0].server.requests_count == 3


async def test_nothing_stays_of_who_is_gone(serve_open, until):
    """Neither a place, nor a connection, nor aiohttp's half of it."""
    served = await serve_open()
    raws = [await (await Raw.open(Site(served))).upgrade() for _ in range(5)]
    for raw in raws:
        await connected(raw)
    assert len(served.engine.part(Admission)) == 5

    for raw in raws:
        raw.close()

    await until(lambda: not len(served.engine.part(Connections)))
    await until(lambda: not len(served.engine.part(Admission)))


async def test_a_place_comes_back_whatever_happens_at_the_end(
    serve_open, until, monkeypatch
):
    """A mistake of ours costs the next client nothing."""
    served = await serve_open()
    raw = await (await Raw.open(Site(served))).upgrade()
    await connected(raw)
    closed = Connection.closed

    def broken(connection):
        closed(connection)
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(Connection, "closed", broken)
    assert len(served.engine.part(Admission)) == 1
    raw.close()

    await until(lambda: not len(served.engine.part(Admission)))


def test_the_address_has_one_opener(settings, site):
    """The router's handler and the straight way are one endpoint."""
    from redis_pubsub.contrib.websockets import setup

    settings.REDIS_PUBSUB = site
    sockets = setup(handlers=[])[SOCKETS]

    assert list(sockets) == ["/connection/websocket"]
    assert sockets["/connection/websocket"].handler is live_websocket
