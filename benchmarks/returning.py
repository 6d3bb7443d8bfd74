"""Clients that are cut off and come back, many in one process: ``python -m
benchmarks.returning``.

Each subscribes to one channel, remembers where it was, and on its return asks for what it
has missed. That has to be every message, once, in order. All who were at one place must get
the same bytes, so the first answer is taken apart and the others are compared with it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from .dialects import (
    LIVE_PING,
    TEXT,
    BadGreeting,
    after_handshake,
    commands,
    frames,
    handshake,
    masked,
    replies_of,
    result_id,
)
from .payloads import number_of
from .processes import allow_many_files, answer_lines, new_loop, say
from .server import BACKLOG

_PATH = "/connection/websocket"
_GENTLY = 50
"""Handshakes in flight when the clients connect for the first time."""
_LISTEN_ON_S = 0.5
"""What comes after a client has everything came twice."""


class Publication(msgspec.Struct):
    data: msgspec.Raw
    offset: int


class Subscribed(msgspec.Struct):
    """A subscribe result; zeros are left out."""

    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    publications: list[Publication] = []


class Reply(msgspec.Struct):
    subscribe: Subscribed


class Storm:
    """One coming of all clients.

    Args:
        recovers: Whether they ask for what they have missed.
        first: Number of the first message of each channel that they have not seen.
        messages: How many there are.
    """

    def __init__(self, *, recovers: bool, first: int = 0, messages: int = 0) -> None:
        self.recovers = recovers
        self.errors: Counter[str] = Counter()
        self.bytes = 0
        self._numbers = list(range(first, first + messages)) if recovers else []
        self._known: dict[tuple[str, str, int], tuple[bytes, Subscribed]] = {}

    def check(self, channel: str, epoch: str, offset: int, body: bytes) -> Subscribed:
        """What a subscribe reply says, if that is right for one who was there.

        Raises:
            BadGreeting: It is not.
        """
        self.bytes += len(body)
        known = self._known.get((channel, epoch, offset))
        if known is not None and known[0] == body:
            return known[1]
        result_id(*replies_of(body))
        result = msgspec.json.decode(body, type=Reply).subscribe
        numbers = [number_of(bytes(each.data)) for each in result.publications]
        offsets = [each.offset for each in result.publications]
        if numbers != self._numbers:
            raise BadGreeting("not every message, once, in order")
        if self.recovers:
            if not result.recovered or (result.epoch, result.offset) != (epoch, offset):
                raise BadGreeting("not recovered")
            if offsets != list(range(offset + 1, offset + 1 + len(numbers))):
                raise BadGreeting("offsets with holes")
        self._known[channel, epoch, offset] = body, result
        return result


class Client(asyncio.Protocol):
    """One client, through all its connections."""

    def __init__(self, channel: str, port: int) -> None:
        self._channel = channel
        self._port = port
        self._epoch = ""
        self._offset = 0
        self._transport: asyncio.WriteTransport | None = None

    async def come(self, storm: Storm, queue: asyncio.Semaphore) -> None:
        """Connect, and be caught up.

        Raises:
            BadGreeting: The server did not say what it should.
            OSError: It did not let the client connect.
        """
        loop = asyncio.get_running_loop()
        self._storm = storm
        self._data = b""
        self._upgraded: asyncio.Future[None] = loop.create_future()
        self._caught_up: asyncio.Future[None] = loop.create_future()
        self._steps: Iterator[None] = self._converse()
        next(self._steps)
        async with queue:
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            await self._upgraded
        await self._caught_up

    def cut(self) -> None:
        """As a network does: without a word."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    # -- the conversation ----------------------------------------------------------------

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.WriteTransport
    ) -> None:
        self._transport = transport
        transport.write(handshake(_PATH))

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            next(self._steps)
        except BadGreeting as error:
            self._fail(error)
        except (ValueError, TypeError) as error:
            self._fail(BadGreeting(f"{type(error).__name__}: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._fail(BadGreeting("the server closed"))

    def _fail(self, error: BadGreeting) -> None:
        # What else it says is of no interest.
        self._steps = itertools.repeat(None)
        for waited in (self._upgraded, self._caught_up):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()
                error = BadGreeting("see the first error")
        self._storm.errors[str(error)] += 1

    def _converse(self) -> Generator[None, None, None]:
        """Goes on whenever there is more data."""
        while (rest := after_handshake(self._data)) is None:
            yield
        self._data = rest
        self._upgraded.set_result(None)
        wish: dict[str, Any] = {"channel": self._channel}
        if self._storm.recovers:
            wish |= {"recover": True, "epoch": self._epoch, "offset": self._offset}
        self._say(commands("", [wish]))
        hello = yield from self._next_frame()
        result_id(*replies_of(hello))
        body = yield from self._next_frame()
        result = self._storm.check(self._channel, self._epoch, self._offset, body)
        last = result.publications[-1:]
        self._epoch = result.epoch
        self._offset = last[0].offset if last else result.offset
        self._caught_up.set_result(None)
        more = yield from self._next_frame()
        raise BadGreeting(f"more than everything: {more[:60]!r}")

    def _next_frame(self) -> Generator[None, None, bytes]:
        """The next that is no ping."""
        while True:
            frame = next(frames(self._data), None)
            if frame is None:
                yield
                continue
            opcode, body, end = frame
            self._data = self._data[end:]
            if opcode != TEXT:
                raise BadGreeting(f"a frame that begins with {opcode}: {body[:60]!r}")
            if body != LIVE_PING[2:]:
                return body
            self._say(b"{}")

    def _say(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(masked(data))


class Returning:
    """All clients."""

    def __init__(self) -> None:
        self._clients: list[Client] = []

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """``connect`` for the first time, ``cut``, come ``back``."""
        do = command.pop("do")
        answer: dict[str, Any] = await getattr(self, f"do_{do}")(**command)
        return answer

    async def do_connect(
        self, *, ports: list[int], clients: int, channels: list[str]
    ) -> dict[str, Any]:
        for index in range(clients):
            turn, port = divmod(index, len(ports))
            self._clients.append(Client(channels[turn % len(channels)], ports[port]))
        return await self._come(Storm(recovers=False), _GENTLY, 60)

    async def do_cut(self) -> dict[str, Any]:
        for client in self._clients:
            client.cut()
        return {}

    async def do_back(
        self, *, recovers: bool, first: int, messages: int, within_s: float
    ) -> dict[str, Any]:
        storm = Storm(recovers=recovers, first=first, messages=messages)
        return await self._come(storm, accept_queue(), within_s)

    async def _come(self, storm: Storm, at_once: int, within_s: float) -> dict[str, Any]:
        queue = asyncio.Semaphore(at_once)
        started, cpu = time.monotonic(), time.process_time()
        coming = [asyncio.create_task(each.come(storm, queue)) for each in self._clients]
        _, late = await asyncio.wait(coming, timeout=within_s)
        took_s = time.monotonic() - started
        cpu_s = time.process_time() - cpu
        for task in late:
            task.cancel()
        if not late:
            await asyncio.sleep(_LISTEN_ON_S)
        results = await asyncio.gather(*coming, return_exceptions=True)
        errors = Counter(str(each) for each in results if each is not None)
        return {
            "clients": len(coming),
            "caught_up": results.count(None),
            "took_s": took_s,
            "cpu_s": cpu_s,
            "core_share": cpu_s / took_s,
            "bytes": storm.bytes,
            "errors": dict(errors + storm.errors),
        }


def accept_queue() -> int:
    """Connections that may wait for the server to accept them."""
    return min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))


async def _main() -> None:
    say({})
    returning = Returning()
    try:
        await answer_lines(returning.answer)
    finally:
        await returning.do_cut()


if __name__ == "__main__":
    allow_many_files()
    try:
        _loop = new_loop("uvloop")
    except ImportError:
        _loop = new_loop("asyncio")
    with asyncio.Runner(loop_factory=_loop) as _runner:
        _runner.run(_main())
