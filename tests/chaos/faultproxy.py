"""A proxy before Redis that can go bad: ``python -m tests.chaos.faultproxy PORT CONTROL``.

Told at the unix socket CONTROL, see `Proxy.answer`:

``target`` where new connections go · ``ok`` · ``hang`` nothing passes until ``ok``, and
nothing is lost · ``blackhole`` nothing passes, and what was connected never will again, as
when a router has forgotten it · ``refuse`` new connections are closed · ``latency`` ·
``cut`` (``kind`` ``commands``, ``subscribers`` or ``all``) connections are reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from typing import Any

from .control import serve


class Pair:
    """A client's connection and ours to Redis."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, ...]) -> None:
        self.writers = writers
        self.is_subscriber = False
        self.is_dead = False

    def reset(self) -> None:
        for writer in self.writers:
            there = writer.get_extra_info("socket")
            if there is not None and there.family != socket.AF_UNIX:
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    def __init__(self) -> None:
        self.mode = "ok"
        self.target = ""
        self.latency_s = 0.0
        self.pairs: set[Pair] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def answer(
        self, do: str, target: str = "", kind: str = "all", seconds: float = 0
    ) -> dict[str, Any]:
        if do == "target":
            self.target = target
        elif do == "latency":
            self.latency_s = seconds
        elif do == "cut":
            for pair in list(self.pairs):
                if kind == "all" or pair.is_subscriber == (kind == "subscribers"):
                    pair.reset()
        else:
            self.mode = do
            if do == "blackhole":
                for pair in self.pairs:
                    pair.is_dead = True
            (self._passing.clear if do == "hang" else self._passing.set)()
        subscribers = sum(pair.is_subscriber for pair in self.pairs)
        return {"connections": len(self.pairs), "subscribers": subscribers}

    async def take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.mode == "refuse":
            writer.transport.abort()
            return
        try:
            back, on = await asyncio.open_unix_connection(self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair((writer, on))
        pair.is_dead = self.mode == "blackhole"
        self.pairs.add(pair)
        try:
            passing = [self._pass(reader, on, pair), self._pass(back, writer, pair)]
            tasks = [asyncio.create_task(each) for each in passing]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self.pairs.discard(pair)
            for each in pair.writers:
                each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if b"SUBSCRIBE" in data:
                    pair.is_subscriber = True
                await self._passing.wait()
                if pair.is_dead:
                    continue
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                writer.write(data)
                await writer.drain()


async def main(port: str, path: str) -> None:
    proxy = Proxy()
    await asyncio.start_server(proxy.take, "127.0.0.1", int(port))
    control = await serve(path, proxy.answer)
    print("the proxy is ready")
    await control.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
