"""What one stranger can do to the others: floods, for some seconds each.

``python -m benchmarks.floods`` prints, for each attack, the worker's memory before, at its
peak and after, and the healthy clients' p99 before and during it, and writes
``results/floods.json``. The server is gunicorn with one worker and the limits as they are
by default; the attacker is a process of its own that comes back at once when it is cut off.
Healthy clients ask a handler for an echo each 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from redis_pubsub.testing import RedisServer

from .processes import ROOT, database, machine, memory_kb, save

_MASK = bytes(4)
_PING = bytes([0x89, 0x80]) + _MASK
_MESSAGE = bytes([0x81, 0x81]) + _MASK + b"x"
_EMPTY = bytes([0x00, 0x80]) + _MASK
_BEGIN = bytes([0x01, 0x80]) + _MASK
_HUGE = bytes([0x82, 0xFF]) + (1 << 62).to_bytes(8, "big") + _MASK
_UNMASKED = bytes([0x81, 0x01]) + b"x"
_PIECE_BYTES = 65_536
_LINES = 4
"""Connections of an attacker at once, where one is not enough."""
_SLOW_LINES = 300
_ECHO_EVERY_S = 0.02
_ADDRESS = b"X-Forwarded-For: 203.0.113.5\r\n"


def _command(text: bytes) -> bytes:
    size = len(text)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE])
    return head + (b"" if size < 126 else size.to_bytes(2, "big")) + _MASK + text


_CONNECT = _command(b'{"id":1,"connect":{}}')
_COMMAND = _command(b'{"id":2,"ping":{}}')
_HISTORY = _command(b'{"id":2,"history":{"channel":"room:a","limit":1000000000}}')


# -- the attacker's side -----------------------------------------------------------------


async def _upgraded(port: int, path: bytes) -> tuple[Any, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n%s"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % (path, _ADDRESS)
    )
    return reader, writer


async def _pour(port: int, path: bytes, begin: bytes, frame: bytes) -> None:
    """Send one frame again and again, reading what comes, until it is cut off."""
    reader, writer = await _upgraded(port, path)
    piece = frame * max(1, _PIECE_BYTES // len(frame))

    async def read() -> None:
        while await reader.read(_PIECE_BYTES):
            pass
        writer.close()

    reading = asyncio.create_task(read())
    try:
        writer.write(begin)
        while not reading.done():
            writer.write(piece)
            await writer.drain()
    finally:
        reading.cancel()
        writer.close()


def pour(path: bytes, frame: bytes, begin: bytes = b"") -> Callable[[int], Awaitable[None]]:
    return lambda port: _pour(port, path, begin, frame)


async def connects(port: int) -> None:
    """Open a socket and leave."""
    reader, writer = await _upgraded(port, b"/")
    await reader.read(64)
    writer.close()


async def half_headers(port: int) -> None:
    """Many requests that never end."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(_SLOW_LINES)]
    for _, writer in opened:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    await asyncio.gather(*(reader.read() for reader, _ in opened))


async def bad_posts(port: int) -> None:
    """Posts of no session."""
    body = b'{"session":"a.b","node":"n","data":"{}"}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        b"POST /emulation HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %d\r\n\r\n%s"
    )
    while not writer.is_closing():
        writer.write(request % (_ADDRESS, len(body), body))
        if not await reader.read(_PIECE_BYTES):
            return


async def slow_readers(port: int) -> None:
    """Clients that ask for much and take nothing."""
    lines = []
    for _ in range(50):
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=line, limit=1_024)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n%s"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % _ADDRESS
        )
        await reader.readuntil(b"\r\n\r\n")
        large = bytes([0x81, 0xFF]) + (500_000).to_bytes(8, "big") + _MASK + b"x" * 500_000
        writer.write(large)
        lines.append(writer)
    await asyncio.sleep(3_600)


ATTACKS: dict[str, Callable[[int], Awaitable[None]]] = {
    "pings": pour(b"/", _PING),
    "one-byte messages": pour(b"/", _MESSAGE),
    "empty continuations": pour(b"/", _EMPTY, _BEGIN),
    "huge frames": pour(b"/", _HUGE),
    "frames without a mask": pour(b"/", _UNMASKED),
    "live commands": pour(b"/connection/websocket", _COMMAND, _CONNECT),
    "live histories": pour(b"/connection/websocket", _HISTORY, _CONNECT),
    "live pings": pour(b"/connection/websocket", _PING, _CONNECT),
    "connects": connects,
    "half headers": half_headers,
    "bad posts": bad_posts,
    "slow readers": slow_readers,
}


async def attack(name: str, port: int) -> None:
    """Again and again, until the process is ended."""

    async def line() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await ATTACKS[name](port)
            await asyncio.sleep(0)

    await asyncio.gather(*(line() for _ in range(_LINES)))


# -- the server's and the healthy clients' side ------------------------------------------


@contextlib.contextmanager
def gunicorn(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A server with one worker: its port, and the worker's process id."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "deployment:application"]
    command += [
        "--bind",
        f"127.0.0.1:{port}",
        "--no-control-socket",
        "--log-level",
        "error",
    ]
    command += ["--worker-class", "aiohttp.worker.GunicornWebWorker"]
    server = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        yield port, _worker_of(server.pid, port)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _worker_of(master: int, port: int) -> int:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as client, contextlib.suppress(OSError):
            if client.connect_ex(("127.0.0.1", port)) == 0:
                for each in Path("/proc").glob("[0-9]*/stat"):
                    fields = each.read_text().rpartition(")")[2].split()
                    if int(fields[1]) == master:
                        return int(each.parent.name)
        time.sleep(0.05)
    raise RuntimeError("gunicorn did not come up")


async def echoes(port: int, clients: int, seconds: float, worker: int) -> dict[str, Any]:
    """Round trips of healthy clients, and the worker's memory meanwhile."""
    found: list[float] = []
    peak = 0
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        sockets = [await http.ws_connect("/") for _ in range(clients)]
        end = time.monotonic() + seconds

        async def one(ws: aiohttp.ClientWebSocketResponse) -> None:
            while time.monotonic() < end:
                began = time.monotonic()
                await ws.send_str("x")
                await ws.receive_str(timeout=30)
                found.append((time.monotonic() - began) * 1000)
                await asyncio.sleep(_ECHO_EVERY_S)

        async def watch() -> None:
            nonlocal peak
            while time.monotonic() < end:
                peak = max(peak, memory_kb(worker)["rss"])
                await asyncio.sleep(0.1)

        await asyncio.gather(watch(), *(one(ws) for ws in sockets))
        for ws in sockets:
            await ws.close()
    found.sort()
    return {
        "p50": statistics.median(found),
        "p99": found[int(len(found) * 0.99)],
        "echoes": len(found),
        "peak_mib": peak / 1024,
    }


async def _counters(port: int) -> dict[str, float]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
    return {name: float(value) for name, value in pairs if "_total" in name}


def one_attack(name: str, options: argparse.Namespace, port: int, worker: int) -> Any:
    """The same clients without and with the attack, in turn."""
    args = (port, options.clients, options.seconds, worker)
    asyncio.run(echoes(port, options.clients, 0.5, worker))
    calm = asyncio.run(echoes(*args))
    before = memory_kb(worker)["rss"] / 1024
    counted = asyncio.run(_counters(port))
    attacker = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.floods", "--attack", name, "--port", str(port)],
        cwd=ROOT,
    )
    try:
        time.sleep(0.7)
        flooded = asyncio.run(echoes(*args))
    finally:
        attacker.kill()
        attacker.wait()
    time.sleep(options.settle)
    after = memory_kb(worker)["rss"] / 1024
    grown = {
        key: value - counted.get(key, 0)
        for key, value in asyncio.run(_counters(port)).items()
        if value > counted.get(key, 0)
    }
    return {
        "calm_ms": calm,
        "flooded_ms": flooded,
        "p99_ratio": flooded["p99"] / calm["p99"],
        "before_mib": before,
        "peak_mib": flooded["peak_mib"],
        "after_mib": after,
        "counters": grown,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Each attack on a new server."""
    results = {}
    with RedisServer() as redis, database() as environment:
        settings = {
            **environment,
            "REDIS_URL": redis.url,
            "DJANGO_SETTINGS_MODULE": "tests.limited_settings",
        }
        for name in options.only or ATTACKS:
            with gunicorn(settings) as (port, worker):
                results[name] = one_attack(name, options, port, worker)
                print(row(name, results[name]), flush=True)
    return {"options": vars(options), "machine": machine(), "attacks": results}


def row(name: str, found: dict[str, Any]) -> str:
    """One line of the table."""
    return (
        f"{name:24}{found['before_mib']:8.1f}{found['peak_mib']:8.1f}"
        f"{found['after_mib']:8.1f}{found['calm_ms']['p99']:10.1f}"
        f"{found['flooded_ms']['p99']:10.1f}{found['p99_ratio']:8.1f}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--settle", type=float, default=2, help="seconds until 'after'")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=ATTACKS)
    parser.add_argument("--attack", choices=ATTACKS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    _chosen = _options()
    if _chosen.attack:
        asyncio.run(attack(_chosen.attack, _chosen.port))
        sys.exit()
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _columns = ("before", "peak", "after", "p99 calm", "flooded", "ratio")
    print(
        f"{'MiB and ms':24}"
        + "".join(f"{c:>{w}}" for c, w in zip(_columns, (8, 8, 8, 10, 10, 8), strict=True))
    )
    _result = measure(_chosen)
    print("\nwritten to", save("floods", "asyncio", _result))
