"""The clients, many in one process: ``python -m benchmarks.load``.

Connects sockets by hand, without a WebSocket library, and checks that each got every
message, in order, at little cost: all sockets of a run must see the same bytes, so the
first to get a byte sets what the others are compared with (one ``memcmp`` a read), and
what it set is taken apart frame by frame.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from .dialects import (
    CLOSE,
    LIVE_PING,
    PING,
    PONG,
    BadGreeting,
    Dialect,
    Handlers,
    Live,
    after_handshake,
    handshake,
    masked,
    text_head,
)
from .payloads import number_of, time_of
from .processes import allow_many_files, answer_lines, new_loop, say

_AT_ONCE = 50
"""Handshakes in flight while connecting."""


class Round:
    """What every socket has to get, and how far they are.

    Args:
        sockets: How many are connected.
        first: Number of the first message.
        messages: How many will come.
        size: Bytes of a payload.
        dialect: What is around it.
        sample_every: Note arrival times on every so many sockets; 0 for none.
    """

    def __init__(
        self,
        sockets: int,
        *,
        first: int,
        messages: int,
        size: int,
        dialect: Dialect,
        sample_every: int = 0,
    ) -> None:
        around = len(dialect.before) + len(dialect.after)
        self.head = text_head(size + around) + dialect.before
        self.tail = dialect.after
        self.frame_bytes = len(self.head) + size + len(self.tail)
        self.total_bytes = messages * self.frame_bytes
        self.sample_every = sample_every
        self.stream = bytearray()
        self.arrivals: list[tuple[int, int, float]] = []
        self.errors: Counter[str] = Counter()
        self.reads = 0
        self._first = first
        self._missing = sockets
        self.finished_at = 0.0
        self.finished = asyncio.Event()

    def one_finished(self) -> None:
        """A socket has everything, or will never have it."""
        self._missing -= 1
        if not self._missing:
            self.finished_at = time.time()
            self.finished.set()

    def check_stream(self) -> None:
        """Every frame is whole, and its number the next."""
        for index, begin in enumerate(range(0, len(self.stream), self.frame_bytes)):
            frame = bytes(self.stream[begin : begin + self.frame_bytes])
            body = frame[len(self.head) :]
            if not (frame.startswith(self.head) and frame.endswith(self.tail)):
                self.errors["not the expected frame"] += 1
            elif number_of(body) != self._first + index:
                self.errors["out of order"] += 1

    def latencies_ms(self) -> list[float]:
        """From publish to arrival, of each message of each sampled socket, sorted."""
        found = []
        for before, after, arrived in self.arrivals:
            for index in range(before // self.frame_bytes, after // self.frame_bytes):
                begin = index * self.frame_bytes + len(self.head)
                sent = time_of(bytes(self.stream[begin : begin + self.frame_bytes]))
                found.append((arrived - sent) * 1000)
        return sorted(found)


class Client(asyncio.Protocol):
    """One socket."""

    def __init__(self, index: int, load: Load, token: str) -> None:
        self._index = index
        self._load = load
        self._token = token
        self._transport: asyncio.WriteTransport | None = None
        self._greeting: bytes | None = b""
        self._has_upgraded = False
        self._partial = b""
        self.offset = 0
        self.is_lost = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def itself(self) -> Client:
        """For ``create_connection``, which wants a factory."""
        return self

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.WriteTransport
    ) -> None:
        self._transport = transport
        dialect = self._load.dialect
        transport.write(handshake(dialect.path, dialect.header(self._token)))

    def data_received(self, data: bytes) -> None:
        current = self._load.round
        if current is None or self._greeting is not None:
            self._take_rare(data)
            return
        before = self.offset
        current.reads += 1
        if not self._partial and current.stream.startswith(data, before):
            self.offset = before + len(data)
        else:
            self._take_rare(data)
        after = self.offset
        if after == before:
            return
        if current.sample_every and not self._index % current.sample_every:
            current.arrivals.append((before, after, time.monotonic()))
        if after == current.total_bytes:
            current.one_finished()

    def _take_rare(self, data: bytes) -> None:
        """The handshake, control frames, and bytes that no other socket has seen yet."""
        data = self._partial + data
        self._partial = b""
        if self._greeting is not None:
            data = self._greet(data)
        while data:
            current = self._load.round
            inside = self.offset % current.frame_bytes if current else 0
            if inside == 1 and data[0] == LIVE_PING[1]:
                # The byte before this read was no message's: a ping begins like one.
                self.offset, inside = self.offset - 1, 0
                data = LIVE_PING[:1] + data
            if not inside and (data[0] in (PING, CLOSE) or data[:2] == LIVE_PING[:2]):
                size = 2 + data[1] if len(data) > 1 else 2
                if len(data) < size:
                    self._partial = data
                    return
                self._control(data[:size])
                data = data[size:]
            elif current is None:
                self._load.unexpected["bytes outside a round"] += 1
                return
            else:
                part = data[: current.frame_bytes - inside]
                self._compare(current, part)
                data = data[len(part) :]

    def _greet(self, data: bytes) -> bytes:
        """Go on with the greeting; what is behind its end."""
        assert self._greeting is not None, "asked by the caller"
        self._greeting += data
        rest: bytes | None
        try:
            if not self._has_upgraded:
                rest = after_handshake(self._greeting)
                if rest is None:
                    return b""
                self._greeting, self._has_upgraded = rest, True
                self._say(self._load.dialect.opening(self._index, self._token))
            rest = self._load.dialect.greeted(self._greeting)
        except BadGreeting as error:
            if not self.ready.done():
                self.ready.set_exception(error)
            return b""
        if rest is None:
            return b""
        self._greeting = None
        self.ready.set_result(None)
        return rest

    def _say(self, data: bytes) -> None:
        assert self._transport is not None, "set when connected"
        if data:
            self._transport.write(data)

    def _compare(self, current: Round, part: bytes) -> None:
        known = bytes(current.stream[self.offset : self.offset + len(part)])
        if not part.startswith(known):
            current.errors["not what the others got"] += 1
        current.stream += part[len(known) :]
        self.offset += len(part)

    def _control(self, frame: bytes) -> None:
        if frame[0] == PING:
            self._say(PONG)
        elif frame == LIVE_PING:
            self._say(masked(b"{}"))
        else:
            self._load.closed[str(int.from_bytes(frame[2:4], "big"))] += 1
            self._lose()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(RuntimeError("closed before it was ready"))
        if not self.is_lost:
            self._load.closed["no close frame"] += 1
            self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        current = self._load.round
        if current is not None and self.offset < current.total_bytes:
            current.one_finished()

    def end(self) -> None:
        """Cut the connection."""
        self.is_lost = True
        if self._transport is not None:
            self._transport.abort()


class Load:
    """The clients of one server."""

    def __init__(self) -> None:
        self.dialect: Dialect = Handlers()
        self.round: Round | None = None
        self.clients: list[Client] = []
        self.closed: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """``connect``, ``expect`` (a round, armed), ``collect`` (its figures), ``drop``."""
        do = command.pop("do")
        answer: dict[str, Any] = await getattr(self, f"do_{do}")(**command)
        return answer

    async def do_connect(
        self, *, port: int, sockets: int, token: str = "", live: list[str] | None = None
    ) -> dict[str, Any]:
        self.dialect = Live(live) if live else Handlers()
        loop = asyncio.get_running_loop()
        wanted = len(self.clients) + sockets
        while len(self.clients) < wanted:
            begin = len(self.clients)
            indexes = range(begin, min(wanted, begin + _AT_ONCE))
            made = [Client(index, self, token) for index in indexes]
            self.clients += made
            await asyncio.gather(
                *(
                    loop.create_connection(client.itself, "127.0.0.1", port)
                    for client in made
                )
            )
            await asyncio.gather(*(client.ready for client in made))
        return {"connected": len(self.clients)}

    async def do_expect(self, **wanted: Any) -> dict[str, Any]:
        alive = [client for client in self.clients if not client.is_lost]
        for client in self.clients:
            client.offset = 0
        self.round = Round(len(alive), dialect=self.dialect, **wanted)
        self._started, self._cpu = time.monotonic(), time.process_time()
        return {"sockets": len(alive)}

    async def do_collect(self, *, within_s: float) -> dict[str, Any]:
        current = self.round
        assert current is not None, "asked after expect"
        try:
            async with asyncio.timeout(within_s):
                await current.finished.wait()
        except TimeoutError:
            current.errors["timed out"] += 1
        cpu = time.process_time() - self._cpu
        took = time.monotonic() - self._started
        current.check_stream()
        short = sum(
            client.offset != current.total_bytes
            for client in self.clients
            if not client.is_lost
        )
        latencies = current.latencies_ms()
        self.round = None
        return {
            "finished_at": current.finished_at,
            "bytes": sum(client.offset for client in self.clients),
            "frame_bytes": current.frame_bytes,
            "reads": current.reads,
            "incomplete": short,
            "closed": dict(self.closed),
            "errors": dict(current.errors + self.unexpected),
            "cpu_s": cpu,
            "core_share": cpu / took,
            "latency_ms": {
                name: latencies[min(len(latencies) - 1, int(len(latencies) * share))]
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            }
            if latencies
            else {},
        }

    async def do_drop(self) -> dict[str, Any]:
        for client in self.clients:
            client.end()
        return {}


async def _main() -> None:
    say({})
    load = Load()
    try:
        await answer_lines(load.answer)
    finally:
        await load.do_drop()


if __name__ == "__main__":
    allow_many_files()
    try:
        _loop = new_loop("uvloop")
    except ImportError:
        _loop = new_loop("asyncio")
    with asyncio.Runner(loop_factory=_loop) as _runner:
        _runner.run(_main())
