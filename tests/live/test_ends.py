"""How connections end, and what keeps them: pings, full buffers, wrong frames, shutdown."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import pytest

from redis_pubsub.web import connections as connections_module
from redis_pubsub.web import upgraded
from redis_pubsub.web.admission import Admission
from redis_pubsub.web.connections import Connections

from .client import subscribe
from .raw import Raw

with_database = pytest.mark.django_db(transaction=True)


# -- pings -------------------------------------------------------------------------------


@with_database
async def test_pings_come_also_while_data_flows(serve_live):
    """§7: one client's timer is re-armed by pings only; who answers stays."""
    live = await serve_live(limits={"heartbeat_s": 0.2})
    client = await live.connect()
    await client.subscribe("lobby:1")

    async def talk():
        while True:
            await live.publish("lobby:1", 1)
            await asyncio.sleep(0.01)

    talking = asyncio.create_task(talk())
    while client.pings < 4:
        await client.hear()
    talking.cancel()
    await client.silent()


async def test_who_does_not_answer_is_not_there(serve_live):
    """W-11, §7: 3012; who has not connected yet is not pinged."""
    live = await serve_live(limits={"heartbeat_s": 0.2})
    client = await live.connect()
    client.answers = False

    assert await client.ended() == (3012, "no pong")
    assert live.engine.metrics["pongs_missed"] == 1
    assert len(live.server) == 0


# -- slow, large, wrong ------------------------------------------------------------------


async def connected(live, *commands, **options):
    """A raw socket whose client has connected and heard the replies."""
    raw = await Raw.open(live, **options)
    assert (await raw.upgrade()).status == 101
    lines = [{"id": 1, "connect": {}}, *commands]
    raw.send_frame("\n".join(map(json.dumps, lines)).encode())
    for _ in range(2 if commands else 1):
        assert (await raw.frame())[0] == 0x81
    return raw


def narrow(live):
    """Options of a client with small buffers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(True)
    sock.connect(("127.0.0.1", live.served.port))
    sock.setblocking(False)
    return sock


@with_database
async def test_a_client_that_does_not_read_is_ended(serve_live, monkeypatch, until):
    """§11: 3008; others hear on, and nothing of it stays in memory."""
    monkeypatch.setattr(upgraded, "_CLOSE_DEADLINE_S", 0.2)
    live = await serve_live(limits={"send_buffer_bytes": 50_000})
    other = await live.connect()
    await other.subscribe("lobby:1")
    reader, writer = await asyncio.open_connection(sock=narrow(live), limit=1_024)
    slow = Raw(reader, writer)
    await slow.upgrade()
    wish = {"id": 2, "subscribe": {"channel": "lobby:1"}}
    lines = [{"id": 1, "connect": {}}, wish]
    slow.send_frame("\n".join(map(json.dumps, lines)).encode())
    await until(lambda: live.engine.hub.channels.get("lobby:1") == 2)

    for _ in range(2_000):
        if live.engine.metrics["slow_disconnects"]:
            break
        await live.publish("lobby:1", "x" * 10_000)
        assert (await other.hear())["push"]["channel"] == "lobby:1"
    assert live.engine.metrics["slow_disconnects"] == 1

    assert live.engine.hub.channels["lobby:1"] == 1
    assert len(live.server) == 1
    await until(lambda: len(live.engine.part(Connections)) == 1)


@with_database
async def test_who_reads_again_in_time_learns_why(serve_live, until):
    """The close frame is the last of what was queued."""
    live = await serve_live(limits={"send_buffer_bytes": 50_000})
    raw = await connected(live, subscribe("lobby:1") | {"id": 2})
    raw.reader._transport.pause_reading()
    while not live.engine.metrics["slow_disconnects"]:
        await live.publish("lobby:1", "x" * 60_000)
    raw.reader._transport.resume_reading()

    opcode, payload = 0, b""
    while opcode != 0x88:
        opcode, payload = await raw.frame()
    assert payload == (3008).to_bytes(2, "big") + b"slow"


async def test_a_frame_over_the_limit_is_1009(serve_live, until):
    """Bad input: the connection ends, and nothing follows the close frame, however slow
    the client is to answer it."""
    live = await serve_live(limits={"live_command_bytes": 1_000})
    raw = await connected(live, subscribe("lobby:1") | {"id": 2})

    raw.send_frame(b'{"id":3,"rpc":{"method":"%s"}}' % (b"x" * 1_000))
    opcode, payload = await raw.frame()
    assert opcode == 0x88 and payload[:2] == (1009).to_bytes(2, "big")
    await live.publish("lobby:1", "late")
    await until(lambda: "lobby:1" not in live.engine.hub.channels)
    raw.send_frame(payload, 0x88)

    assert await raw.frame() is None


async def test_a_text_that_is_no_utf_8_ends_the_connection(live):
    """1007, or 3501: never a traceback."""
    raw = await connected(live)

    raw.send_frame(b'{"id":3,"rpc":{"method":"\xff"}}')

    opcode, payload = await raw.frame()
    assert opcode == 0x88 and int.from_bytes(payload[:2], "big") in (1007, 3501)


async def test_nothing_follows_a_close_frame(live, user):
    """Neither a second one, once the client has answered, nor a publication."""
    raw = await connected(live, subscribe("lobby:1") | {"id": 2})
    raw.send_frame(b"hello")
    opcode, payload = await raw.frame()
    assert (opcode, payload) == (0x88, (3501).to_bytes(2, "big") + b"bad request")

    await live.publish("lobby:1", "late")
    raw.send_frame(payload, 0x88)

    assert await raw.frame() is None


async def test_a_close_of_the_client_is_answered(live, until):
    """RFC 6455: with a close frame, and then the end."""
    raw = await connected(live, subscribe("room:1") | {"id": 2})

    raw.send_frame((1000).to_bytes(2, "big"), 0x88)

    opcode, _ = await raw.frame()
    assert opcode == 0x88 and await raw.frame() is None
    await until(lambda: len(live.server) == 0)


@pytest.mark.parametrize("protocol", ["centrifuge-json", "centrifuge-protobuf"])
async def test_each_form_has_its_kind_of_frame(live, protocol):
    """§1: binary on JSON, or text on Protobuf: 3501."""
    client = await live.open(protocols=(protocol,))
    assert client.ws.protocol == protocol

    if protocol == "centrifuge-json":
        await client.ws.send_bytes(b"\x00")
    else:
        await client.ws.send_str("{}")

    assert await client.ended() == (3501, "bad request")


@pytest.mark.parametrize("offer", ["", "centrifuge-json", "other", "a, centrifuge-json"])
async def test_any_offer_of_protocols_is_fine_for_json(live, offer):
    """§1: old clients send the header empty."""
    raw = await Raw.open(live)

    await raw.upgrade(**{"Sec-WebSocket-Protocol": offer})

    assert raw.status == 101
    answered = raw.headers.get("sec-websocket-protocol")
    assert answered == ("centrifuge-json" if "json" in offer else None)
    assert "sec-websocket-extensions" not in raw.headers


async def test_an_address_for_sockets_says_so(live):
    """A browser that comes by: 426."""
    async with live.http.get(live.url + "/connection/websocket") as response:
        assert response.status == 426


# -- shutdown ----------------------------------------------------------------------------


@with_database
async def test_a_process_that_ends_says_when_to_come_back(live, user, monkeypatch):
    """In the reason, for the protocol has no field for it: text to other clients."""
    monkeypatch.setattr(connections_module, "_RETURNS_PER_S", 0.5)
    ada, eve = await live.connect(user), await live.connect()

    await live.engine.part(Connections).drain(5)

    assert sorted([await ada.ended(), await eve.ended()]) == [
        (3001, "shutdown"),
        (3001, "shutdown; reconnect in 2.0 s"),
    ]


@with_database
async def test_a_process_that_ends_says_so(live, user, until):
    """§11: 3001, from which clients come back; who comes meanwhile is told to wait."""
    ada, silent = await live.connect(user), await live.open()
    deaf = await connected(live)

    draining = asyncio.create_task(live.engine.part(Connections).drain(0.3))

    assert await ada.ended() == (3001, "shutdown")
    assert await silent.ended() == (3001, "shutdown")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.open()
    assert refused.value.status == 503
    await draining
    assert (await deaf.frame())[0] == 0x88 and await deaf.frame() is None
    await until(lambda: not len(live.engine.part(Connections)))
    assert live.engine.hub.channels.keys() <= {"\x00control"}


@with_database
async def test_who_has_left_already_is_not_waited_for(serve_live, until):
    """A stop that meets a client on its way out takes no longer for it."""
    live = await serve_live()
    raw = await connected(live)
    connections = live.engine.part(Connections)
    (connection,) = connections._open
    raw.close()
    await until(lambda: not len(connections))

    async with asyncio.timeout(5):
        await connection.go_away(1001, "the server is restarting", 0)


@with_database
@pytest.mark.parametrize("goes", ["with a close frame", "with the end of its stream"])
async def test_who_leaves_without_reading_is_forgotten(
    serve_live, monkeypatch, until, goes
):
    """Its last word waits for what it does not take; its place does not."""
    monkeypatch.setattr(upgraded, "_CLOSE_DEADLINE_S", 0.2)
    live = await serve_live()
    reader, writer = await asyncio.open_connection(sock=narrow(live), limit=1_024)
    raw = Raw(reader, writer)
    await raw.upgrade()
    wish = {"id": 2, "subscribe": {"channel": "lobby:1"}}
    lines = [{"id": 1, "connect": {}}, wish]
    raw.send_frame("\n".join(map(json.dumps, lines)).encode())
    await until(lambda: live.engine.hub.channels.get("lobby:1") == 1)
    (connection,) = live.connections
    while connection.outlet.unsent_bytes() < 100_000:
        await live.publish("lobby:1", "x" * 50_000)

    if goes == "with a close frame":
        raw.send_frame(b"\x03\xe8", 0x88)
    else:
        writer.write_eof()

    await until(lambda: not len(live.engine.part(Connections)))
    await until(lambda: not len(live.engine.part(Admission)))
    writer.transport.abort()
