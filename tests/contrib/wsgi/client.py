"""Raw HTTP: bytes out, bytes in, and just enough reading to compare answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 20.0
"""Nothing here takes so long; whoever waits longer would wait for ever."""


@dataclass(frozen=True)
class Reply:
    """One response as it came.

    Attributes:
        is_whole: Whether the body has the length, or the last chunk, it should have.
        rest: What came after it.
    """

    status: int
    reason: bytes
    headers: list[tuple[str, bytes]]
    body: bytes
    is_whole: bool
    rest: bytes

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> bytes | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


def parse(raw: bytes, method: str = "GET") -> Reply:
    """Read one response as a strict client does."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    assert separator, f"no response: {raw[:200]!r}"
    status_line, *lines = head.split(b"\r\n")
    _, status, reason = status_line.split(b" ", 2)
    headers = []
    for line in lines:
        name, _, value = line.partition(b": ")
        headers.append((name.decode().lower(), value))
    found = dict(headers)
    is_whole = True
    if method == "HEAD" or status in (b"204", b"304"):
        body = b""
    elif found.get("transfer-encoding") == b"chunked":
        body, rest, is_whole = dechunk(rest)
    elif "content-length" in found:
        length = int(found["content-length"])
        is_whole = len(rest) >= length
        body, rest = rest[:length], rest[length:]
    else:
        body, rest = rest, b""
    return Reply(int(status), reason, headers, body, is_whole, rest)


def dechunk(data: bytes) -> tuple[bytes, bytes, bool]:
    """A chunked body, what follows it, and whether it ended."""
    body = b""
    while True:
        size_line, separator, data = data.partition(b"\r\n")
        if not separator:
            return body, b"", False
        size = int(size_line, 16)
        if size == 0:
            return body, data[2:], data.startswith(b"\r\n")
        body += data[:size]
        if len(data) < size + 2:
            return body, b"", False
        data = data[size + 2 :]


def get(path: str, *lines: str | bytes, method: str = "GET", is_last: bool = True) -> bytes:
    """A request with lines of one's own; the connection closes after the last one."""
    start = f"{method} {path} HTTP/1.1\r\nHost: example.org\r\n"
    if is_last:
        start += "Connection: close\r\n"
    extra = (line if isinstance(line, bytes) else line.encode() for line in lines)
    return start.encode() + b"".join(line + b"\r\n" for line in extra) + b"\r\n"


async def talk(port: int, request: bytes) -> bytes:
    """Send bytes, read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()


async def until(condition: Callable[[], object]) -> None:
    """Let everything else run until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def ask(port: int, request: bytes) -> Reply:
    """Send one request on a connection of its own and read the answer."""
    method = request.partition(b" ")[0].decode()
    return parse(await talk(port, request), method)
