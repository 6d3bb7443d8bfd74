"""What clients and servers say to each other, as bytes: handshake, greeting, messages.

``handlers`` is a WebSocket whose messages are the payloads themselves; ``live`` is the
live endpoint, in JSON.

Sources: RFC 6455, sections 4 and 5; docs/reference/wire.rst.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

TEXT, PING, CLOSE = 0x81, 0x89, 0x88
PONG = b"\x8a\x80\x00\x00\x00\x00"
LIVE_PING = b"\x81\x02{}"
_NO_MASK = b"\x00\x00\x00\x00"


class BadGreeting(Exception):
    """The server did not say what it should."""


class Handlers:
    """A socket handler that says ``ready`` and forwards a channel."""

    path = "/"
    before = after = b""

    def opening(self, index: int, token: str) -> bytes:
        """What a client says once it is connected."""
        return b""

    def header(self, token: str) -> str:
        """What the handshake has besides."""
        return f"Authorization: Bearer {token}\r\n" if token else ""

    def greeted(self, data: bytes) -> bytes | None:
        """What follows the server's greeting; ``None`` while that is not whole."""
        frame = next(frames(data), None)
        if frame is None:
            return None
        opcode, body, end = frame
        if (opcode, body) != (TEXT, b"ready"):
            raise BadGreeting(repr(body))
        return data[end:]


class Live:
    """The live endpoint.

    Args:
        channels: What every client subscribes to; ``{index}`` in a name is the client's.
    """

    path = "/connection/websocket"
    after = b"}}}"

    def __init__(self, channels: list[str]) -> None:
        self._channels = channels
        self.before = b'{"push":{"channel":"%s","pub":{"data":' % channels[0].encode()

    def opening(self, index: int, token: str) -> bytes:
        """The connect command and the subscriptions, in one frame."""
        wishes = [{"channel": name.format(index=index)} for name in self._channels]
        return masked(commands(token, wishes))

    def header(self, token: str) -> str:
        """The token is in the connect command."""
        return ""

    def greeted(self, data: bytes) -> bytes | None:
        """See `Handlers.greeted`: a result for every command, in order."""
        begin, wanted = 0, len(self._channels) + 1
        found: list[int] = []
        while len(found) < wanted:
            frame = next(frames(data, begin), None)
            if frame is None:
                return None
            _, body, begin = frame
            found += [result_id(reply) for reply in replies_of(body)]
        if found != list(range(1, wanted + 1)):
            raise BadGreeting(f"replies to {found}")
        return data[begin:]


Dialect = Handlers | Live


def commands(token: str, wishes: list[dict[str, Any]]) -> bytes:
    """A connect command and subscribe commands, with ids from 1."""
    said: list[dict[str, Any]] = [{"connect": {"token": token} if token else {}}]
    said += [{"subscribe": wish} for wish in wishes]
    return b"\n".join(
        json.dumps({"id": number, **command}).encode()
        for number, command in enumerate(said, 1)
    )


def replies_of(body: bytes) -> list[dict[str, Any]]:
    """What a frame of the live endpoint says, but for its pings."""
    return [reply for line in body.split(b"\n") if (reply := json.loads(line))]


def result_id(reply: dict[str, Any]) -> int:
    """Which command was carried out.

    Raises:
        BadGreeting: None was.
    """
    if "id" not in reply or "error" in reply:
        raise BadGreeting(repr(reply))
    return int(reply["id"])


def handshake(path: str, header: str = "") -> bytes:
    """The request of a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{header}\r\n"
    ).encode()


def after_handshake(data: bytes) -> bytes | None:
    """What follows the answer to it; ``None`` while that is not whole.

    Raises:
        BadGreeting: The server does not want to.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    if b" 101 " not in head:
        raise BadGreeting(f"no handshake: {head[:100]!r}")
    return rest


def masked(payload: bytes) -> bytes:
    """A client's text frame; its mask is nothing but zeros, which changes no byte."""
    size = len(payload)
    if size < 126:
        return bytes([TEXT, 0x80 | size]) + _NO_MASK + payload
    return bytes([TEXT, 0xFE]) + size.to_bytes(2, "big") + _NO_MASK + payload


def text_head(size_bytes: int) -> bytes:
    """How an unmasked, whole text frame with such a payload begins."""
    if size_bytes < 126:
        return bytes([TEXT, size_bytes])
    if size_bytes < 65536:
        return b"\x81\x7e" + size_bytes.to_bytes(2, "big")
    return b"\x81\x7f" + size_bytes.to_bytes(8, "big")


def frames(data: bytes, begin: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """First byte, payload and end of each whole frame."""
    while len(data) >= begin + 2:
        size, start = data[begin + 1], begin + 2
        if size > 125:
            start += 2 if size == 126 else 8
            if len(data) < start:
                return
            size = int.from_bytes(data[begin + 2 : start], "big")
        if len(data) < start + size:
            return
        yield data[begin], data[start : start + size], start + size
        begin = start + size
