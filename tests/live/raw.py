"""Bytes on a connection, for what client libraries hide: frames, chunks, ends."""

from __future__ import annotations

import asyncio
import json

TIMEOUT_S = 5.0


class Raw:
    """A TCP connection to a site."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers = {}

    @classmethod
    async def open(cls, site, **options):
        port = site.served.port
        return cls(*await asyncio.open_connection("127.0.0.1", port, **options))

    async def request(self, method, path, *, body=b"", version="1.1", **headers):
        """Send a request and read the head of its answer."""
        port = self.writer.get_extra_info("peername")[1]
        headers.setdefault("Host", f"127.0.0.1:{port}")
        if body or method == "POST":
            headers["Content-Length"] = len(body)
        lines = [f"{method} {path} HTTP/{version}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(TIMEOUT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")[:-2]
        self.status = int(first.split(" ")[1])
        pairs = [line.partition(": ") for line in rest]
        self.headers = {name.lower(): value for name, _, value in pairs}
        return self

    def close(self):
        self.writer.close()

    async def rest(self):
        """All bytes up to the end of the connection."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read(-1)

    # -- WebSocket ---------------------------------------------------------------------

    async def upgrade(self, path="/connection/websocket", **headers):
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            **headers,
        }
        return await self.request("GET", path, **headers)

    def send_frame(self, payload, opcode=0x81):
        """One masked frame; the mask is of zeros, so that the bytes stay as they are."""
        size = len(payload)
        if size < 126:
            head = bytes([opcode, 128 | size])
        elif size < 65_536:
            head = bytes([opcode, 128 | 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([opcode, 128 | 127]) + size.to_bytes(8, "big")
        self.writer.write(head + bytes(4) + payload)

    async def frame(self):
        """The next frame: its first byte and its payload; ``None`` at the end."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                opcode, size = await self.reader.readexactly(2)
                if size > 125:
                    width = 2 if size == 126 else 8
                    size = int.from_bytes(await self.reader.readexactly(width), "big")
                return opcode, await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return None

    # -- streams -----------------------------------------------------------------------

    async def chunk(self):
        """The next chunk of a chunked answer; ``b""`` is the last."""
        async with asyncio.timeout(TIMEOUT_S):
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def replies(self):
        """The replies in the next chunk of an HTTP stream."""
        data = await self.chunk()
        assert data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]
