"""The live endpoint over WebSocket, in JSON and in Protobuf."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import hdrs, web

from ...codes import Code, Disconnects
from ...web.admission import Admission, Place
from ...web.connections import Connections
from ...web.handshake import BEARER, Credentials
from ...web.incoming import Broken
from ...web.keys import ENGINE
from ...web.pace import pace_of_live
from ...web.requests import fault_of_upgrade
from ...web.upgrade import take_over
from ...web.upgraded import UpgradedSocket
from .connection import Connection
from .dialogue import Said, begin, carry_out
from .protocol.forms import WEBSOCKET, Form, websocket_protobuf
from .server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...engine import Engine

logger = logging.getLogger("redis_pubsub.live")

JSON = "centrifuge-json"
PROTOBUF = "centrifuge-protobuf"


class SocketLine(UpgradedSocket):
    """A WebSocket as a `Line`, and the conversation on it.

    What a frame holds is carried out before the next is looked at, and what a client may
    have under way meanwhile is bounded by the network.
    """

    __slots__ = (
        "_connection",
        "_is_left",
        "_opcode",
        "_place",
        "_task",
        "form",
        "on_slow",
        "session",
    )

    def __init__(
        self, transport: asyncio.Transport, server: LiveServer, opening: Opening
    ) -> None:
        limits = server.limits
        super().__init__(
            transport,
            pace_of_live(limits),
            limits.live_command_bytes,
            limits.send_buffer_bytes,
        )
        self.form = opening.form
        # Without the bit that says that a frame is the last of its message.
        self._opcode = opening.form.opcode & 0x0F
        self.session = ""
        self.on_slow: Callable[[], None] = self.abort
        self._place = opening.place
        self._task: asyncio.Task[None] | None = None
        self._is_left = False
        self._connection = Connection(server, self, opening.credentials, opening.place)
        self._place.take()

    def end(self, code: Code) -> None:
        """See `Line`."""
        self.goodbye(code.code, code.reason)

    # -- what the client does ---------------------------------------------------------

    def heard(self, opcode: int, data: bytes) -> None:
        """See `UpgradedSocket`."""
        connection = self._connection
        if opcode != self._opcode:
            connection.end(Disconnects.BAD_REQUEST)
            return
        said = begin(connection, data)
        if said is None:
            return
        self.is_busy = True
        self._task = asyncio.create_task(self._carry_out(said))

    async def _carry_out(self, said: Said) -> None:
        connection = self._connection
        # The site's coroutines are called in this task, and in those it starts.
        connection.server.engine.orm.adopt()
        try:
            await carry_out(connection, said)
        finally:
            self._task = None
            if self._is_left:
                self.left()
            else:
                self.go_on()

    def abort(self) -> None:
        """See `UpgradedSocket`; with what is carried out, which may wait for ever."""
        super().abort()
        if self._task is not None:
            self._task.cancel()

    def broke_protocol(self, error: Broken) -> None:
        """See `UpgradedSocket`."""
        self._connection.server.engine.metrics.count("protocol_breaches")
        self._connection.end(Code(error.code, error.reason))
        # Where its frames begin is not known any more, so its answer might not be seen.
        self.close_writing()

    def flooded(self) -> None:
        """See `UpgradedSocket`."""
        self._connection.server.engine.metrics.count("flood_disconnects")
        self._connection.flooded()

    def too_slow(self) -> None:
        """See `UpgradedSocket`."""
        self.on_slow()

    def left(self) -> None:
        """See `UpgradedSocket`. Who is carrying something out for it comes to an end first:
        nothing may be taken in the name of a connection that is forgotten."""
        self._is_left = True
        if self._task is not None:
            return
        try:
            self._connection.closed()
        finally:
            self._place.give_back()


class Opening(NamedTuple):
    """A handshake that was found good; see `redis_pubsub.web.upgrade.Opening`.

    Attributes:
        server: Whose connection it will be.
        credentials: What the handshake brought along.
        place: Its part of what the process can carry.
        form: How replies will travel.
        protocol: What the handshake's answer says of that.
    """

    server: LiveServer
    credentials: Credentials
    place: Place
    form: Form
    protocol: str

    def open(self, transport: asyncio.Transport) -> SocketLine:
        return SocketLine(transport, self.server, self)


def opening_of(engine: Engine, request: web.BaseRequest) -> Opening:
    """Look at a handshake, which has no fault as such.

    Raises:
        web.HTTPException: It is refused.
    """
    if engine.part(Connections).is_draining:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
    server: LiveServer = engine.part(LiveServer)
    place = engine.part(Admission).admit(request)
    credentials = server.gatekeeper.inspect(request)
    form, protocol = _form(request)
    return Opening(server, credentials, place, form, protocol)


async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one socket: here only its handshake."""
    if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        raise web.HTTPUpgradeRequired(
            text="This address speaks WebSocket, as Centrifuge's clients do.\n",
            headers={hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "Upgrade"},
        )
    fault = fault_of_upgrade(request)
    if fault is not None:
        raise fault
    opening = opening_of(request.config_dict[ENGINE], request)
    return take_over(request, opening)


def _form(request: web.BaseRequest) -> tuple[Form, str]:
    """Which form the client offers, and which subprotocol the handshake answers.

    Raises:
        web.HTTPBadRequest: Only Protobuf, and that is not installed.
    """
    offered = [
        name.strip()
        for value in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
        for name in value.split(",")
    ]
    form, known = WEBSOCKET, (JSON, BEARER)
    if PROTOBUF in offered and JSON not in offered:
        try:
            form, known = websocket_protobuf(), (PROTOBUF, BEARER)
        except ImportError:
            raise web.HTTPBadRequest(
                text="Protobuf is not installed here: pip install "
                "django-redis-pubsub[protobuf], or connect with JSON\n"
            ) from None
    return form, next((name for name in offered if name in known), "")
