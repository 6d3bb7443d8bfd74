"""The WebSocket handshake's answer, and taking a connection over from aiohttp with it.

Source: RFC 6455, section 4.2.2.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import hdrs, web
from aiohttp.http import WS_KEY

from .upgraded import UpgradedSocket

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter

_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n%s\r\n"
)


class Opening(Protocol):
    """A handshake that was found good.

    Attributes:
        protocol: The subprotocol agreed on; empty for none.
    """

    @property
    def protocol(self) -> str: ...

    def open(self, transport: asyncio.Transport) -> UpgradedSocket:
        """Make the socket; only then anything of it is kept."""


def answer(request: web.BaseRequest, protocol: str) -> bytes:
    """The head of the answer to a good handshake.

    Args:
        request: The handshake.
        protocol: The subprotocol agreed on; empty for none.
    """
    key = request.headers[hdrs.SEC_WEBSOCKET_KEY].encode()
    accept = base64.b64encode(hashlib.sha1(key + WS_KEY).digest())
    chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return _ANSWER % (accept, chosen.encode())


def take_over(request: web.Request, opening: Opening) -> web.StreamResponse:
    """Answer a handshake, and take its connection from aiohttp, which forgets it.

    Args:
        request: The handshake, as aiohttp's handlers get it.
        opening: Makes the socket.

    Returns:
        What the handler has to return.
    """
    connection: Any = request.protocol
    transport = connection.transport
    if transport is None or transport.is_closing():
        return web.Response(status=499)
    early, connection._message_tail = connection._message_tail, b""
    transport.write(answer(request, opening.protocol))
    socket = opening.open(transport)
    # aiohttp has no word for "this is no longer yours" (3.14.5). As if the connection were
    # lost, it gives up all that it keeps of it; it must not find what it would close.
    connection.transport = None
    connection.connection_lost(None)
    socket.begin(early)
    transport.resume_reading()
    return _Switched(status=101)


class _Switched(web.StreamResponse):
    """What aiohttp takes for an answer that was given; its access log has a line of it."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self._req = request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is to be written."""

    @property
    def keep_alive(self) -> bool | None:
        return False
