"""What a client that does not keep up gets, by the channel option ``slow``."""

from __future__ import annotations

import asyncio
import json

import pytest

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import websocket_pubsub

pytestmark = pytest.mark.django_db(transaction=True)

CHANNELS = {
    "latest": {"slow": "latest", "subscribe": "anyone"},
    "drop": {"slow": "drop", "subscribe": "anyone", "history_size": 400},
    "strict": {"subscribe": "anyone"},
}
BIG = "x" * 20_000
LIMIT = 100_000


@pytest.fixture
def small(settings, site):
    settings.REDIS_PUBSUB = site | {
        "channels": CHANNELS,
        "live": {"anonymous": True},
        "limits": {"send_buffer_bytes": LIMIT},
    }


class Sleeper:
    """A live client on a raw connection that reads only when it is told to."""

    async def connect(self, port, channel):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=1_000
        )
        self.writer.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await self.reader.readuntil(b"\r\n\r\n")
        self.say({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}})
        await self.hear(2)
        return self

    def say(self, *commands):
        body = "\n".join(map(json.dumps, commands)).encode()
        assert len(body) < 65536
        head = b"\x81\xfe" + len(body).to_bytes(2, "big") + b"\0\0\0\0"
        self.writer.write(head + body)

    async def hear(self, count):
        """The next replies."""
        replies = []
        while len(replies) < count:
            _, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            body = await self.reader.readexactly(size)
            if body == b"{}":
                continue
            replies += [json.loads(line) for line in body.split(b"\n")]
        return replies


async def test_the_latest_comes_when_the_client_takes_data_again(small, serve, until):
    """C-14: model state: what was skipped is out of date, the last message is not."""
    served = await serve()
    slow = await Sleeper().connect(served.port, "latest")
    metrics = served.engine.metrics

    sent = 0
    while not metrics["slow_skips"]:
        sent += 1
        await apublish("latest", {"n": sent, "pad": BIG})
    for _ in range(20):
        sent += 1
        await apublish("latest", {"n": sent, "pad": BIG})

    numbers = []
    while sent not in numbers:
        (reply,) = await slow.hear(1)
        numbers.append(reply["push"]["pub"]["data"]["n"])
    await apublish("latest", {"n": sent + 1})
    (reply,) = await slow.hear(1)
    assert reply["push"]["pub"]["data"]["n"] == sent + 1
    assert numbers == sorted(set(numbers)) and len(numbers) < sent
    assert metrics["slow_disconnects"] == 0
    slow.writer.close()


async def test_a_gap_is_told_when_the_client_takes_data_again(small, serve):
    """C-14: ``drop``: it is told to subscribe anew, and gets what the history has."""
    served = await serve()
    slow = await Sleeper().connect(served.port, "drop")

    sent = 0
    while not served.engine.metrics["slow_skips"]:
        sent += 1
        await apublish("drop", {"n": sent, "pad": BIG})
    sent += 1
    await apublish("drop", {"n": sent})

    numbers, offset = [], 0
    while True:
        (reply,) = await slow.hear(1)
        push = reply["push"]
        if "unsubscribe" in push:
            break
        numbers.append(push["pub"]["data"]["n"])
        offset = push["pub"]["offset"]
    assert push["unsubscribe"]["code"] == 2500
    slow.say({"id": 3, "subscribe": {"channel": "drop", "recover": True, "offset": offset}})
    (reply,) = await slow.hear(1)
    numbers += [each["data"]["n"] for each in reply["subscribe"]["publications"]]
    assert numbers == list(range(1, sent + 1))
    slow.writer.close()


async def test_a_slow_client_of_a_strict_channel_is_disconnected(small, serve, until):
    """C-14: 3008 and out; nothing of it stays, and another client is not delayed."""
    served = await serve()
    slow = await Sleeper().connect(served.port, "strict")
    quick = await served.connect("/connection/websocket")
    await quick.send_str('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"strict"}}')
    await quick.receive_str()
    await quick.receive_str()

    sent = 0
    while not served.engine.metrics["slow_disconnects"]:
        sent += 1
        await apublish("strict", {"n": sent, "pad": BIG})
        while True:
            text = await quick.receive_str()
            if text != "{}":
                break
        assert json.loads(text)["push"]["pub"]["data"]["n"] == sent

    await until(lambda: served.engine.hub.channels["strict"] == 1)
    slow.writer.close()


async def test_a_handler_is_told_of_the_gap(small, serve, until):
    """``manager.forward``: the reader's ``on_position_lost``, once the client is back."""
    told = []

    @websocket_pubsub("/forward/")
    async def forward(ws, params, manager, **kwargs):
        (reader,) = await manager.forward(ws, "drop")
        reader.on_position_lost = told.append
        await ws.send_str("ready")
        await ws.receive()

    served = await serve(forward)
    ws = await served.connect("/forward/")
    await ws.receive_str()

    sent = 0
    while not served.engine.metrics["slow_skips"]:
        sent += 1
        await apublish("drop", {"n": sent, "pad": BIG})

    async def read():
        async for _ in ws:
            pass

    reading = asyncio.create_task(read())
    await until(lambda: told)
    reading.cancel()

    assert told == ["drop"] and served.engine.metrics["slow_disconnects"] == 0
