"""The live endpoint over WebSocket, in JSON and in Protobuf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, hdrs, web

from ...codes import Code, Disconnects
from ...frames import BINARY, TEXT, cut_reason, frame
from ...web.admission import Admission, Place
from ...web.connections import Connections
from ...web.guard import pace_of_live
from ...web.guarded import GuardedSocket
from ...web.handshake import BEARER
from ...web.keys import ENGINE
from ...web.outlet import Outlet
from .connection import Connection
from .dialogue import hear
from .protocol.forms import WEBSOCKET, Form, websocket_protobuf
from .server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JSON = "centrifuge-json"
PROTOBUF = "centrifuge-protobuf"
_CLOSE = 0x88
_CLOSE_DEADLINE_S = 10.0
_KINDS = {WSMsgType.TEXT: TEXT, WSMsgType.BINARY: BINARY}


class SocketLine:
    """A WebSocket as a `Line`."""

    __slots__ = ("_transport", "form", "on_slow", "outlet", "session")

    def __init__(self, transport: asyncio.Transport, form: Form, limit_bytes: int) -> None:
        self._transport = transport
        self.form = form
        self.session = ""
        self.on_slow: Callable[[], None] = self.abort
        self.outlet = Outlet(transport, limit_bytes, self._too_slow)

    def end(self, code: Code) -> None:
        """See `Line`: a close frame; what the client answers is still read, so that it
        sees the code and not a reset."""
        transport = self.outlet.shut()
        if transport is not None:
            close = code.code.to_bytes(2, "big") + cut_reason(code.reason)
            transport.write(frame(close, _CLOSE))
            asyncio.get_running_loop().call_later(_CLOSE_DEADLINE_S, transport.abort)

    def answered(self) -> None:
        """The client has answered our close frame: that was the last of it."""
        self._transport.close()

    def abort(self) -> None:
        """See `Line`."""
        self.outlet.shut()
        self._transport.abort()

    def _too_slow(self) -> None:
        self.on_slow()


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one socket, from the handshake to its end."""
    engine = request.config_dict[ENGINE]
    if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        raise web.HTTPUpgradeRequired(
            text="This address speaks WebSocket, as Centrifuge's clients do.\n",
            headers={hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "Upgrade"},
        )
    if engine.part(Connections).is_draining:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
    with engine.part(Admission).admit(request) as place:
        return await _serve(request, engine.part(LiveServer), place)


async def _serve(
    request: web.Request, server: LiveServer, place: Place
) -> web.StreamResponse:
    credentials = server.gatekeeper.inspect(request)
    form, protocols = _form(request)
    socket = GuardedSocket(
        pace_of_live(server.limits),
        server.engine.metrics,
        protocols=protocols,
        compress=False,
        max_msg_size=server.limits.live_command_bytes,
        # It would answer a close frame that is an answer to ours.
        autoclose=False,
    )
    try:
        await socket.prepare(request)
    except ConnectionResetError:
        return web.Response(status=499)
    transport = request.transport
    if transport is None:
        return socket
    line = SocketLine(transport, form, server.limits.send_buffer_bytes)
    connection = Connection(server, line, credentials, place)
    socket.watch_floods(connection.flooded)
    try:
        await _converse(socket, connection, form)
        if connection.session.ending is not None:
            line.answered()
    finally:
        connection.closed()
    return socket


async def _converse(
    socket: web.WebSocketResponse, connection: Connection, form: Form
) -> None:
    """Carry out what comes, until the client is gone. While a command is carried out
    nothing is read: what a client may have under way is bounded by the network."""
    # The site's coroutines are called in this task, and in those it starts.
    connection.server.engine.orm.adopt()
    while True:
        message = await socket.receive()
        opcode = _KINDS.get(message.type)
        if opcode is None:
            return
        if opcode == form.opcode:
            await hear(connection, message.data)
        else:
            connection.end(Disconnects.BAD_REQUEST)
        # A silent client's last words are not kept: with a token they are long.
        del message


def _form(request: web.Request) -> tuple[Form, Sequence[str]]:
    """Which form the client offers, and what the handshake may answer.

    Raises:
        web.HTTPBadRequest: Only Protobuf, and that is not installed.
    """
    offered = {
        name.strip()
        for value in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
        for name in value.split(",")
    }
    if PROTOBUF in offered and JSON not in offered:
        try:
            return websocket_protobuf(), (PROTOBUF, BEARER)
        except ImportError:
            raise web.HTTPBadRequest(
                text="Protobuf is not installed here: pip install "
                "django-redis-pubsub[protobuf], or connect with JSON\n"
            ) from None
    return WEBSOCKET, (JSON, BEARER)
