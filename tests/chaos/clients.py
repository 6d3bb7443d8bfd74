"""Many live clients in one process: ``python -m tests.chaos.clients OPTIONS``.

An implementation of its own of what the live endpoint's clients do: Centrifuge's JSON over
WebSocket, recovery from a position, repeats dropped by their offset, reconnects with
jitter; whoever is told that it missed something loads the state by HTTP. Everything is
written to a ledger. Dialect ``plain`` is for servers that push ``{"channel", "key", "n"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from typing import Any

from tests.chaos.control import serve
from tests.chaos.ledger import Ledger

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_NO_CLOSE_FRAME = 1006


class Closed(Exception):
    """The connection is over; ``code`` as a browser would say."""

    def __init__(self, code: int) -> None:
        self.code = code


class Socket:
    """As much of a WebSocket as is needed here."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, path: str) -> Socket:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_HANDSHAKE.format(path=path, port=port).encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if b" 101 " not in head.partition(b"\r\n")[0]:
                    raise ConnectionError(head[:60].decode("latin-1"))
            except BaseException:
                writer.transport.abort()
                raise
        return cls(reader, writer)

    async def receive(self) -> str:
        """The next text.

        Raises:
            Closed: There is none.
        """
        try:
            while True:
                first, length = await self._reader.readexactly(2)
                if length == 126:
                    length = int.from_bytes(await self._reader.readexactly(2), "big")
                elif length == 127:
                    length = int.from_bytes(await self._reader.readexactly(8), "big")
                data = await self._reader.readexactly(length)
                kind = first & 15
                if kind == _TEXT:
                    return data.decode()
                if kind == _PING:
                    self._send(_PONG, data)
                elif kind == _CLOSE:
                    self._send(_CLOSE, data[:2])
                    raise Closed(int.from_bytes(data[:2], "big") or 1005)
        except (OSError, asyncio.IncompleteReadError):
            raise Closed(_NO_CLOSE_FRAME) from None

    def send(self, *commands: Any) -> None:
        self._send(_TEXT, "\n".join(map(json.dumps, commands)).encode())

    def _send(self, kind: int, data: bytes) -> None:
        head = bytes((0x80 | kind, 0x80 | min(len(data), 126)))
        if len(data) > 125:
            head += len(data).to_bytes(2, "big")
        # A mask of zeros is one as well.
        self._writer.write(head + b"\0\0\0\0" + data)

    async def close(self) -> None:
        """Say so, and wait for the answer."""
        self._send(_CLOSE, (1000).to_bytes(2, "big"))
        with contextlib.suppress(Closed):
            while True:
                await self.receive()
        self.cut()

    def cut(self) -> None:
        self._writer.transport.abort()


class Client:
    """One client. Writes down

    ``sub`` channel, epoch, offset, was_recovering, recovered: it hears a channel ·
    ``pub`` channel, epoch, offset, key, is_repeat: a row arrived ·
    ``unsub`` channel, code · ``open`` · ``close`` code, was it cut by us ·
    ``state`` channel, keys: what it loaded after it was told that it missed something.
    """

    def __init__(self, index: int, channels: list[str], load: Load) -> None:
        self._index = index
        self._load = load
        self._chance = random.Random(f"{load.options['seed']}-{index}")
        self.channels = channels
        self.positions: dict[str, tuple[str, int]] = {}
        self.heard: set[str] = set()
        self._asked: dict[int, str] = {}
        self._next_id = 1
        self._socket: Socket | None = None
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        # A page loads its state piece by piece, not with all requests at once.
        self._loading = asyncio.Lock()

    def _note(self, what: str, *values: Any) -> None:
        self._load.ledger.write([self._index, what, round(time.monotonic(), 4), *values])

    async def run(self) -> None:
        """Stay connected until cancelled."""
        failures = 0
        try:
            while True:
                try:
                    await self._connect()
                    failures = 0
                    while True:
                        self._take(await self._socket.receive())  # type: ignore[union-attr]
                except Closed as closed:
                    self._note("close", closed.code, self._is_cut)
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    failures += 1
                self._lost()
                longest = min(2.0, 0.1 * 2 ** min(failures, 6))
                await asyncio.sleep(self._chance.uniform(0.02, longest))
        finally:
            self._lost()

    def cut(self) -> None:
        """Lose the connection, as in a tunnel."""
        if self._socket is not None:
            self._is_cut = True
            self._socket.cut()

    def _lost(self) -> None:
        if self._socket is not None:
            self._socket.cut()
        self._socket = None
        self.heard.clear()
        self._asked.clear()

    async def _connect(self) -> None:
        port = self._load.options["port"]
        self._is_cut = False
        if self._load.is_plain:
            names = ",".join(self.channels)
            self._socket = await Socket.open(port, f"/ws/?channels={names}")
            self._note("open")
            return
        self._socket = await Socket.open(port, "/connection/websocket")
        self._note("open")
        commands = [self._command(connect={})]
        commands += [self._subscribe(channel) for channel in self.channels]
        self._socket.send(*commands)

    def _command(self, **request: Any) -> dict[str, Any]:
        self._next_id += 1
        return {"id": self._next_id, **request}

    def _subscribe(self, channel: str) -> dict[str, Any]:
        wish: dict[str, Any] = {"channel": channel}
        if channel in self.positions:
            epoch, offset = self.positions[channel]
            wish |= {"recover": True, "epoch": epoch, "offset": offset}
        command = self._command(subscribe=wish)
        self._asked[command["id"]] = channel
        return command

    def _take(self, text: str) -> None:
        if self._load.is_plain:
            self._take_plain(json.loads(text))
            return
        for line in text.split("\n"):
            said = json.loads(line)
            if not said:
                self._socket.send({})  # type: ignore[union-attr]
            elif "push" in said:
                self._pushed(said["push"])
            else:
                self._answered(said)

    def _take_plain(self, said: dict[str, Any]) -> None:
        if "key" in said:
            self._note("pub", said["channel"], "", 0, said["key"], False)
        else:
            self.heard.update(self.channels)

    def _answered(self, said: dict[str, Any]) -> None:
        channel = self._asked.pop(said.get("id", 0), None)
        if channel is None:
            return
        if "error" in said:
            self._note("error", channel, said["error"]["code"])
            self._later(channel)
            return
        result = said["subscribe"]
        was_recovering = result.get("was_recovering", False)
        is_recovered = result.get("recovered", False)
        epoch, offset = result.get("epoch", ""), result.get("offset", 0)
        self._note("sub", channel, epoch, offset, was_recovering, is_recovered)
        self.heard.add(channel)
        if result.get("recoverable"):
            if not is_recovered:
                self.positions[channel] = (epoch, offset)
            for publication in result.get("publications", ()):
                self._publication(channel, publication)
        if was_recovering and not is_recovered:
            self._spawn(self._load_state(channel))

    def _pushed(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "pub" in push:
            self._publication(channel, push["pub"])
        elif "unsubscribe" in push:
            code = push["unsubscribe"]["code"]
            self._note("unsub", channel, code)
            self.heard.discard(channel)
            if code >= 2500:
                self._later(channel)

    def _publication(self, channel: str, publication: dict[str, Any]) -> None:
        key = publication["data"]["key"]
        offset = publication.get("offset", 0)
        epoch, known = self.positions.get(channel, ("", 0))
        is_repeat = bool(offset) and offset <= known
        if offset and not is_repeat and channel in self.positions:
            self.positions[channel] = (epoch, offset)
        self._note("pub", channel, epoch, offset, key, is_repeat)

    def _later(self, channel: str) -> None:
        """Subscribe again, soon."""

        async def again(socket: Socket | None) -> None:
            await asyncio.sleep(self._chance.uniform(0.05, 0.5))
            if self._socket is socket and socket is not None:
                socket.send(self._subscribe(channel))

        self._spawn(again(self._socket))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_state(self, channel: str) -> None:
        while True:
            async with self._loading:
                status, body = await self._load.get(f"/rows/{channel}")
            if status == 200:
                self._note("state", channel, json.loads(body)["keys"])
                return
            await asyncio.sleep(self._chance.uniform(0.1, 0.5))


class Load:
    """All clients, and somebody who looks at the site meanwhile."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.is_plain = options.get("dialect") == "plain"
        self.ledger = Ledger(options["ledger"])
        chance = random.Random(options["seed"])
        names = [f"room:{i:02}" for i in range(options["channels"])]
        each = options["channels_each"]
        self._clients = [
            Client(i, chance.sample(names, each), self) for i in range(options["clients"])
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._flapping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._tasks = [asyncio.create_task(client.run()) for client in self._clients]
        for path, every_s in (("/", 0.1), ("/readyz", 0.5)):
            self._tasks.append(asyncio.create_task(self._look(path, every_s)))

    async def answer(self, do: str, **options: Any) -> Any:
        """``status``; ``flap`` on or off: each client is cut every 1 to 3 s."""
        if do == "flap":
            self._flap(**options)
        waiting = sum(len(c.channels) - len(c.heard) for c in self._clients)
        tops: dict[str, set[Any]] = {}
        for client in self._clients:
            for channel, position in client.positions.items():
                tops.setdefault(channel, set()).add(position)
        return {"waiting": waiting, "apart": sum(len(top) > 1 for top in tops.values())}

    def _flap(self, on: bool) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        if on:
            self._flapping = asyncio.create_task(self._flap_all())

    async def _flap_all(self) -> None:
        async def flap(client: Client) -> None:
            while True:
                await asyncio.sleep(random.uniform(1, 3))
                client.cut()

        await asyncio.gather(*map(flap, self._clients))

    async def _look(self, path: str, every_s: float) -> None:
        while True:
            began = time.monotonic()
            status, body = await self.get(path)
            took = time.monotonic() - began
            said = "" if status == 200 else body[:200].decode("latin-1")
            self.ledger.write(["http", path, round(began, 4), status, round(took, 4), said])
            await asyncio.sleep(max(0.0, every_s - took))

    async def get(self, path: str) -> tuple[int, bytes]:
        """A page: status (0 if there was no answer) and body."""
        writer = None
        try:
            async with asyncio.timeout(10):
                port = self.options["port"]
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    "Connection: close\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                return int(head.split(b" ", 2)[1]), await reader.read(-1)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0, b""
        finally:
            if writer is not None:
                writer.transport.abort()


async def main(options: dict[str, Any]) -> None:
    """Options: ``port``, ``ledger`` a path, ``control`` a path, ``clients``, ``channels``,
    ``channels_each``, ``seed``, ``dialect``."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    load = Load(options)
    load.start()
    control = await serve(options["control"], load.answer)
    print("clients are ready")
    await over.wait()
    control.close()
    # What happens from here on is nobody's business.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
