"""RFC 6455 case by case, as bytes on a connection: a handler that echoes, and the live
endpoint. The cases are those that Autobahn's test suite made common."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from aiohttp import web

from redis_pubsub.contrib.websockets import websocket
from redis_pubsub.contrib.websockets.server import make_runner
from tests.live.raw import Raw

KIB, MIB = 1_024, 1_048_576
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"


@websocket("/echo", max_message_bytes=MIB + 1)
async def echo(ws, params):
    async for message in ws:
        if message.type is message.type.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)


@websocket("/echo-large", max_message_bytes=16 * MIB + 1)
async def echo_large(ws, params):
    async for message in ws:
        await ws.send_bytes(message.data)


def frame(first, payload=b"", *, size=None, masked=True):
    """One frame of a client; ``size`` is what its head claims, if not the truth."""
    size = len(payload) if size is None else size
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65_536:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = int.from_bytes((MASK * (len(payload) // 4 + 1))[: len(payload)], "big")
    hidden = (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
    return head + MASK + hidden


def close(code, reason=b""):
    return frame(FIN | CLOSE, code.to_bytes(2, "big") + reason)


@dataclass(frozen=True)
class Case:
    """What is sent, and what has to come back.

    Attributes:
        sent: Bytes of a client.
        heard: Frames of the server before its close: first byte and payload.
        code: Of its close; ``None`` for an empty one, 0 where it does not close.
        maybe: A frame that may come as well: the answer of a handler that was quick
            enough, when the next thing the client does ends the connection.
    """

    sent: bytes
    heard: tuple[tuple[int, bytes], ...] = ()
    code: int | None = 0
    maybe: tuple[int, bytes] | None = None


def text(payload):
    return (FIN | TEXT, payload)


def binary(payload):
    return (FIN | BINARY, payload)


def pong(payload):
    return (FIN | PONG, payload)


SMILE = "κόσμε 😀".encode()
HALF = b"\xf0\x9f"  # of a code point of four bytes
INVALID = b"\xce\xba\xed\xa0\x80edited"  # a surrogate
CASES = {
    # -- data ----------------------------------------------------------------------------
    **{
        f"text of {size} bytes": Case(frame(FIN | TEXT, b"*" * size), (text(b"*" * size),))
        for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, MIB)
    },
    **{
        f"binary of {size} bytes": Case(
            frame(FIN | BINARY, b"\xfe" * size), (binary(b"\xfe" * size),)
        )
        for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536, MIB)
    },
    "larger than allowed": Case(frame(FIN | BINARY, size=MIB + 1), (), 1009),
    "claims 2^62 bytes": Case(frame(FIN | BINARY, size=1 << 62), (), 1009),
    "claims 2^63 bytes": Case(frame(FIN | BINARY, size=1 << 63), (), 1009),
    "fragments larger than allowed together": Case(
        frame(BINARY, b"x" * MIB) + frame(FIN | CONT, b"xx"), (), 1009
    ),
    # -- pings ---------------------------------------------------------------------------
    "an empty ping": Case(frame(FIN | PING), (pong(b""),)),
    "a ping with text": Case(frame(FIN | PING, b"Hello"), (pong(b"Hello"),)),
    "a ping with bytes": Case(frame(FIN | PING, b"\0\xff\xfe"), (pong(b"\0\xff\xfe"),)),
    "a ping of 125 bytes": Case(frame(FIN | PING, b"\xfe" * 125), (pong(b"\xfe" * 125),)),
    "a ping of 126 bytes": Case(frame(FIN | PING, b"\xfe" * 126), (), 1002),
    "ten pings": Case(
        b"".join(frame(FIN | PING, b"%d" % n) for n in range(10)),
        tuple(pong(b"%d" % n) for n in range(10)),
    ),
    "a pong nobody asked for": Case(frame(FIN | PONG) + frame(FIN | PING), (pong(b""),)),
    "a pong nobody asked for, with text": Case(
        frame(FIN | PONG, b"unasked") + frame(FIN | PING, b"a"), (pong(b"a"),)
    ),
    # -- reserved bits and opcodes -------------------------------------------------------
    **{
        f"reserved bits {bits:#x} in {name}": Case(frame(FIN | bits | code, b"x"), (), 1002)
        for bits in (RSV1, RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3, RSV2 | RSV3)
        for name, code in (("text", TEXT), ("binary", BINARY))
    },
    "reserved bit in a ping": Case(frame(FIN | RSV2 | PING), (), 1002),
    "reserved bit in a close": Case(frame(FIN | RSV3 | CLOSE, b"\x03\xe8"), (), 1002),
    "reserved bit after a good message": Case(
        frame(FIN | TEXT, b"good") + frame(FIN | RSV2 | TEXT, b"bad"),
        (),
        1002,
        text(b"good"),
    ),
    **{
        f"reserved opcode {code}": Case(frame(FIN | code, b"x"), (), 1002)
        for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    # -- fragments -----------------------------------------------------------------------
    "text in two fragments": Case(
        frame(TEXT, b"frag") + frame(FIN | CONT, b"ments"), (text(b"fragments"),)
    ),
    "binary in many fragments": Case(
        frame(BINARY, b"a") + frame(CONT, b"b") * 1_000 + frame(FIN | CONT, b"c"),
        (binary(b"a" + b"b" * 1_000 + b"c"),),
    ),
    "empty fragments": Case(frame(TEXT) + frame(CONT) + frame(FIN | CONT), (text(b""),)),
    "empty fragments around a full one": Case(
        frame(TEXT) + frame(CONT, b"middle") + frame(FIN | CONT), (text(b"middle"),)
    ),
    "a ping between fragments": Case(
        frame(TEXT, b"frag") + frame(FIN | PING, b"!") + frame(FIN | CONT, b"ments"),
        (pong(b"!"), text(b"fragments")),
    ),
    "pings between all fragments": Case(
        frame(TEXT, b"1")
        + frame(FIN | PING, b"a")
        + frame(CONT, b"2")
        + frame(FIN | PING, b"b")
        + frame(FIN | CONT, b"3"),
        (pong(b"a"), pong(b"b"), text(b"123")),
    ),
    "a ping in fragments": Case(
        frame(PING, b"frag") + frame(FIN | CONT, b"ment"), (), 1002
    ),
    "a pong in fragments": Case(frame(PONG, b"frag") + frame(FIN | CONT, b"m"), (), 1002),
    "a close in fragments": Case(frame(CLOSE, b"\x03\xe8"), (), 1002),
    "a continuation of nothing": Case(frame(FIN | CONT, b"x"), (), 1002),
    "an unfinished continuation of nothing": Case(frame(CONT, b"x"), (), 1002),
    "a continuation after a whole message": Case(
        frame(FIN | TEXT, b"whole") + frame(FIN | CONT, b"x"), (), 1002, text(b"whole")
    ),
    "a message inside another": Case(
        frame(TEXT, b"begun") + frame(FIN | TEXT, b"another"), (), 1002
    ),
    "the beginning of a message inside another": Case(
        frame(TEXT, b"begun") + frame(TEXT, b"another"), (), 1002
    ),
    # -- UTF-8 ---------------------------------------------------------------------------
    "text beyond ASCII": Case(frame(FIN | TEXT, SMILE), (text(SMILE),)),
    "a code point split between fragments": Case(
        frame(TEXT, SMILE[:-2]) + frame(FIN | CONT, SMILE[-2:]), (text(SMILE),)
    ),
    "text in fragments of one byte": Case(
        frame(TEXT, SMILE[:1])
        + b"".join(frame(CONT, SMILE[n : n + 1]) for n in range(1, len(SMILE)))
        + frame(FIN | CONT),
        (text(SMILE),),
    ),
    "the last and the first code point": Case(
        frame(FIN | TEXT, "\U0010ffff\0".encode()), (text("\U0010ffff\0".encode()),)
    ),
    "a surrogate": Case(frame(FIN | TEXT, INVALID), (), 1007),
    "a surrogate in a fragment": Case(
        frame(TEXT, INVALID) + frame(FIN | CONT, b"more"), (), 1007
    ),
    "half a code point": Case(frame(FIN | TEXT, HALF), (), 1007),
    "an overlong slash": Case(frame(FIN | TEXT, b"\xc0\xaf"), (), 1007),
    "beyond the last code point": Case(frame(FIN | TEXT, b"\xf4\x90\x80\x80"), (), 1007),
    "a lone continuation byte": Case(frame(FIN | TEXT, b"\x80"), (), 1007),
    "bytes that are no text, as binary": Case(
        frame(FIN | BINARY, INVALID), (binary(INVALID),)
    ),
    # -- closes --------------------------------------------------------------------------
    **{
        # An answer need not repeat the code, and aiohttp's is always 1000.
        f"close {code}": Case(close(code), (), 1000)
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011)
    },
    **{
        f"close {code} of a library or application": Case(close(code), (), 1000)
        for code in (3000, 3999, 4000, 4999)
    },
    **{
        f"close {code}, which nobody may send": Case(close(code), (), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "close with a reason": Case(close(1000, b"bye"), (), 1000),
    "close with the longest reason": Case(close(1000, b"*" * 123), (), 1000),
    "close with too long a reason": Case(close(1000, b"*" * 124), (), 1002),
    "close with a reason that is no text": Case(close(1000, INVALID), (), 1007),
    "close of one byte": Case(frame(FIN | CLOSE, b"\x03"), (), 1002),
    "an empty close": Case(frame(FIN | CLOSE), (), None),
    "what comes after a close": Case(
        close(1000) + frame(FIN | TEXT, b"late") + frame(FIN | PING), (), 1000
    ),
    "a close between fragments": Case(frame(TEXT, b"begun") + close(1000), (), 1000),
    "a message, then a close": Case(
        frame(FIN | TEXT, b"last") + close(1000), (), 1000, text(b"last")
    ),
    # -- masks ---------------------------------------------------------------------------
    "text without a mask": Case(frame(FIN | TEXT, b"x", masked=False), (), 1002),
    "a ping without a mask": Case(frame(FIN | PING, masked=False), (), 1002),
    "large and without a mask": Case(
        frame(FIN | BINARY, b"x" * 70_000, masked=False), (), 1002
    ),
    "a fragment without a mask": Case(
        frame(TEXT, b"masked") + frame(FIN | CONT, b"not", masked=False), (), 1002
    ),
    "without a mask after good messages": Case(
        frame(FIN | TEXT, b"one") + frame(FIN | TEXT, b"two", masked=False),
        (),
        1002,
        text(b"one"),
    ),
}


@pytest.fixture
async def opened(serve):
    """A client that has shaken hands with a handler: ``client = await opened(path)``."""
    served = await serve(echo, echo_large)
    clients = []

    async def start(path="/echo/"):
        client = await Raw.open(SimpleNamespace(served=served))
        clients.append(client)
        await client.upgrade(path)
        assert client.status == 101
        return client

    yield start
    for client in clients:
        client.close()


async def expect(client, case):
    """What a case says comes back, and nothing else."""
    for heard in case.heard:
        assert await client.frame() == heard
    if case.code == 0:
        # Still open, and in step.
        client.writer.write(frame(FIN | PING, b"still there"))
        assert await client.frame() == pong(b"still there")
        return
    last = await client.frame()
    if last == case.maybe:
        last = await client.frame()
    first, payload = last
    assert first == FIN | CLOSE
    if case.code is None:
        assert payload in (b"", b"\x03\xe8")
    else:
        assert int.from_bytes(payload[:2], "big") == case.code
    client.writer.write(close(1000))
    assert await client.frame() is None


@pytest.mark.parametrize("name", CASES)
async def test_the_server_answers_as_the_protocol_says(opened, name):
    """W-14: text, binary, every close code. Sent in one piece."""
    client = await opened()

    client.writer.write(CASES[name].sent)

    await expect(client, CASES[name])


SMALL = [name for name, case in CASES.items() if len(case.sent) < 400]


@pytest.mark.parametrize("name", SMALL)
async def test_it_does_not_matter_where_the_network_cuts(opened, name):
    """Sent byte by byte, each in a packet of its own."""
    client = await opened()

    answer = asyncio.create_task(expect(client, CASES[name]))
    # What is still sent when the server has closed already goes nowhere.
    with contextlib.suppress(ConnectionResetError):
        for n in range(len(CASES[name].sent)):
            client.writer.write(CASES[name].sent[n : n + 1])
            await client.writer.drain()
            await asyncio.sleep(0)

    await answer


@pytest.mark.parametrize("size", [64 * KIB, MIB, 16 * MIB])
async def test_a_large_message_comes_back_whole_in_one_frame_or_in_many(opened, size):
    """A handler's own limit lets two of its largest messages through at once."""
    client = await opened("/echo-large/")
    payload = bytes(range(256)) * (size // 256)
    pieces = [payload[n : n + 65_536] for n in range(0, size, 65_536)]

    client.writer.write(frame(FIN | BINARY, payload))
    whole = await client.frame()
    client.writer.write(frame(BINARY, pieces[0]))
    for piece in pieces[1:]:
        client.writer.write(frame(CONT, piece))
    client.writer.write(frame(FIN | CONT))
    again = await client.frame()

    assert whole == again == binary(payload)


async def test_one_byte_over_sixteen_mib_is_refused_before_it_is_sent(opened):
    """The head is enough."""
    client = await opened("/echo-large/")

    client.writer.write(frame(FIN | BINARY, size=16 * MIB + 1))

    await expect(client, Case(b"", (), 1009))


async def test_frames_that_come_with_the_handshake_are_looked_at_as_well(serve):
    """What a client sends before it has read the answer passes the same guard."""
    served = await serve(echo)
    client = await Raw.open(SimpleNamespace(served=served))
    head = (
        b"GET /echo/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % served.port
    )

    client.writer.write(
        head + frame(FIN | TEXT, b"early") + frame(FIN | TEXT, b"x", masked=False)
    )
    await client.reader.readuntil(b"\r\n\r\n")

    await expect(client, Case(b"", (), 1002, text(b"early")))
    assert served.engine.metrics["protocol_breaches"] == 1
    client.close()


# -- the live endpoint -------------------------------------------------------------------

CONNECT = b'{"id":1,"connect":{}}'
ASK = b'{"id":2,"ping":{}}'
LIVE_CASES = {
    "a command in fragments": Case(
        frame(TEXT, ASK[:5]) + frame(CONT, ASK[5:9]) + frame(FIN | CONT, ASK[9:]),
        ({"id": 2},),
    ),
    "a ping between a command's fragments": Case(
        frame(TEXT, ASK[:5]) + frame(FIN | PING, b"?") + frame(FIN | CONT, ASK[5:]),
        (pong(b"?"), {"id": 2}),
    ),
    "no text": Case(frame(FIN | TEXT, INVALID), (), 1007),
    "a binary frame": Case(frame(FIN | BINARY, ASK), (), 3501),
    "a reserved bit": Case(frame(FIN | RSV1 | TEXT, ASK), (), 1002),
    "a reserved opcode": Case(frame(FIN | 3, ASK), (), 1002),
    "a ping of 126 bytes": Case(frame(FIN | PING, b"x" * 126), (), 1002),
    "a command without a mask": Case(frame(FIN | TEXT, ASK, masked=False), (), 1002),
    "a frame over the limit": Case(frame(FIN | TEXT, size=64 * KIB + 1), (), 1009),
    "a close of one byte": Case(frame(FIN | CLOSE, b"\x03"), (), 1002),
    "a close nobody may send": Case(close(1005), (), 1002),
}


@pytest.mark.parametrize("run", [make_runner, web.AppRunner], ids=["ours", "aiohttp's"])
@pytest.mark.parametrize("name", LIVE_CASES)
async def test_the_live_endpoint_answers_as_the_protocol_says(
    serve, settings, site, name, run
):
    """The same rules, and its own codes, whether the connection was aiohttp's before."""
    settings.REDIS_PUBSUB = site | {"live": {"anonymous": True}}
    served = await serve(run=run)
    client = await Raw.open(SimpleNamespace(served=served))
    await client.upgrade("/connection/websocket")
    client.writer.write(frame(FIN | TEXT, CONNECT))
    assert json.loads((await client.frame())[1])["id"] == 1

    case = LIVE_CASES[name]
    client.writer.write(case.sent)

    for heard in case.heard:
        first, payload = await client.frame()
        if isinstance(heard, dict):
            assert json.loads(payload)["id"] == heard["id"]
        else:
            assert (first, payload) == heard
    await expect(client, Case(b"", (), case.code))
    client.close()
