"""What a message costs on its way to the sockets, and a guard: ratios that must hold.

``python -m pytest benchmarks/micro``. The bounds are about twice what was measured, so that
they fail for a lock, a task or a second encoding on the path, and not for a slow machine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_pubsub.frames import payload_frame
from redis_pubsub.hub import Hub
from redis_pubsub.messages import Header, Message, Position, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.wire import Envelope, frame

from ..payloads import payload, value

Ratio = Callable[[Callable[[], object], Callable[[], object]], float]
MANY = 1_000
RAW = payload(0, 100)


class QuietBroker:
    """A broker that confirms everything and delivers nothing."""

    is_connected = True

    async def start(self, sink: object) -> None: ...

    async def close(self) -> None: ...

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        confirmed = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed

    async def unsubscribe(self, channel: str) -> None: ...

    async def read(self, reads: list[Any]) -> list[Any]:
        from redis_pubsub.broker import History

        return [History(Position("", 0), []) for _ in reads]

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Transport:
    """Where writing ends; as cheap as it can be."""

    framing = staticmethod(payload_frame)
    connection_id = ""

    def __init__(self) -> None:
        self.framing = payload_frame
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)

    def offer(self, messages: list[Message]) -> None: ...

    def position_lost(self, channel: str) -> None: ...


class Process:
    """A hub with listeners, driven turn by turn."""

    def __init__(self, channels: list[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self.sockets = [Transport() for _ in channels]
        self._loop.run_until_complete(self._start(channels))
        self.wire = frame(Envelope().header("", new_header(), RAW), RAW)
        self._channels = list(dict.fromkeys(channels))

    async def _start(self, channels: list[str]) -> None:
        broker: Any = QuietBroker()
        self.hub = Hub(broker, Metrics())
        await self.hub.start()
        for channel, socket in zip(channels, self.sockets, strict=True):
            listener: Any = socket
            await self.hub.listen(channel, listener)
        await asyncio.sleep(0.01)

    def message_on_each(self) -> None:
        """One message on every channel, up to the last write."""
        for channel in self._channels:
            self.hub.deliver(channel, self.wire)
        self.turns(2 + len(self.sockets) // 256)

    def turns(self, count: int) -> None:
        async def some() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self._loop.run_until_complete(some())

    def close(self) -> None:
        self._loop.run_until_complete(self.hub.close())
        self._loop.close()


@pytest.fixture
def broadcast() -> Iterator[Process]:
    process = Process(["news"] * MANY)
    yield process
    process.close()


@pytest.fixture
def own_channels() -> Iterator[Process]:
    process = Process([f"own{index}" for index in range(MANY)])
    yield process
    process.close()


def write_all(sockets: list[Transport], data: bytes) -> None:
    for socket in sockets:
        socket.write(data)


def test_a_broadcast(benchmark: Any, broadcast: Process) -> None:
    """One message for 1,000 sockets of one channel."""
    benchmark(broadcast.message_on_each)


def test_a_message_on_each_of_many_channels(benchmark: Any, own_channels: Process) -> None:
    """1,000 messages, each for one socket."""
    benchmark(own_channels.message_on_each)


def test_parsing_a_message(benchmark: Any) -> None:
    """From the bytes on Redis to a message."""
    envelope = Envelope()
    wire = frame(envelope.header("", new_header(), RAW), RAW)
    benchmark(envelope.parse, "news", wire)


def test_a_broadcast_is_little_more_than_the_writes(
    broadcast: Process, ratio: Ratio
) -> None:
    """A loop over ``transport.write`` is the floor; the hub adds no work per socket."""
    data = payload_frame(Message("news", Header("1"), RAW, Position("", 0)))
    floor = ratio(broadcast.message_on_each, lambda: write_all(broadcast.sockets, data))

    assert all(socket.bytes for socket in broadcast.sockets)
    assert floor < 2.5


def test_a_lone_message_costs_few_times_its_parsing(
    own_channels: Process, ratio: Ratio
) -> None:
    """Of 1,000 messages, each for one socket, parsing is a good part of the work."""
    envelope = Envelope()

    def parse_each() -> None:
        for _ in range(MANY):
            envelope.parse("news", own_channels.wire)

    assert ratio(own_channels.message_on_each, parse_each) < 5


def test_a_frame_costs_less_than_encoding_its_payload(ratio: Ratio) -> None:
    """A message is framed by splicing bytes, and never encoded again."""
    message = Message("news", Header("1"), RAW, Position("", 0))
    body = value(0, 100)

    def frame_many() -> None:
        for _ in range(MANY):
            payload_frame(message)

    def encode_many() -> None:
        for _ in range(MANY):
            json.dumps(body)

    assert ratio(frame_many, encode_many) < 0.6
