"""The live endpoint for clients that cannot have a WebSocket: a response that goes on, and
posts beside it (``emulation``)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import HttpVersion11, hdrs, web

from ...codes import Code, Disconnects
from ...exceptions import BrokerUnavailable
from ...web.admission import Admission, Place
from ...web.connections import Connections
from ...web.handshake import Credentials
from ...web.keys import ENGINE
from ...web.outlet import Outlet
from .connection import Connection
from .dialogue import hear
from .emulation import PostOffice
from .http import allow_origin, body_of
from .protocol.forms import SSE, SSE_UNCHUNKED, STREAM, STREAM_UNCHUNKED, Form
from .server import LiveServer

POSTS_WAITING = 64
"""Posts of one client that may wait for those before them."""
_END_DEADLINE_S = 10.0
HEADERS = {
    hdrs.CACHE_CONTROL: "private, no-cache, no-store, must-revalidate, max-age=0",
    hdrs.PRAGMA: "no-cache",
    # nginx would keep a stream for itself until it has enough of it.
    "X-Accel-Buffering": "no",
}


class StreamLine:
    """A response that goes on, as a `Line`."""

    def __init__(
        self, transport: asyncio.Transport, form: Form, limit_bytes: int, session: str
    ) -> None:
        self._transport = transport
        self.form = form
        self.session = session
        self.on_slow: Callable[[], None] = self.abort
        self.outlet = Outlet(transport, limit_bytes, self._too_slow)
        self.on_flood: Callable[[], None] = self.abort
        self.on_moved: Callable[[], None] = self.abort
        self._posts: asyncio.Queue[str] = asyncio.Queue(POSTS_WAITING)
        self._has_ended = False

    def post(self, data: str) -> None:
        """What came in beside the stream."""
        try:
            self._posts.put_nowait(data)
        except asyncio.QueueFull:
            self.on_flood()

    async def next_post(self) -> str | None:
        """The next one; ``None`` once the stream has ended, or its client is gone."""
        post = await self._posts.get()
        return None if self._has_ended else post

    def look(self) -> None:
        """End it if its client is gone: aiohttp does not say when the client of a
        response leaves. Asked by `PostOffice` for all streams at once."""
        if not self._has_ended and not self.outlet.is_connected:
            self._over()

    def end(self, code: Code) -> None:
        """See `Line`: a push, then the end of the response."""
        # Past the outlet: a full buffer must not keep the last word back.
        transport = self.outlet.shut()
        self._over()
        if transport is not None:
            transport.write(self.form.goodbye(code))
            asyncio.get_running_loop().call_later(_END_DEADLINE_S, transport.abort)

    def abort(self) -> None:
        """See `Line`."""
        self.outlet.shut()
        self._transport.abort()
        self._over()

    def _over(self) -> None:
        self._has_ended = True
        if self._posts.empty():
            # Wakes who waits for a post; it is not looked at any more.
            self._posts.put_nowait("")

    def _too_slow(self) -> None:
        self.on_slow()


async def http_stream(request: web.Request) -> web.StreamResponse:
    """A POST whose body is the connect command, and whose answer goes on."""
    server = _server_of(request)
    with server.engine.part(Admission).admit(request) as place:
        credentials = server.gatekeeper.inspect(request)
        command = await body_of(request, server.limits.live_command_bytes)
        form = STREAM if request.version >= HttpVersion11 else STREAM_UNCHUNKED
        opening = Opening(credentials, place, form, command, "application/json")
        return await _serve(request, server, opening)


async def sse(request: web.Request) -> web.StreamResponse:
    """Server-sent events: the connect command is in the query."""
    server = _server_of(request)
    with server.engine.part(Admission).admit(request) as place:
        credentials = server.gatekeeper.inspect(request)
        command = request.query.get("cf_connect", "").encode()
        if not command:
            raise web.HTTPBadRequest(text="no cf_connect in the query\n")
        form = SSE if request.version >= HttpVersion11 else SSE_UNCHUNKED
        opening = Opening(credentials, place, form, command, "text/event-stream", b"\r\n")
        return await _serve(request, server, opening)


def _server_of(request: web.Request) -> LiveServer:
    engine = request.config_dict[ENGINE]
    if engine.part(Connections).is_draining:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
    server: LiveServer = engine.part(LiveServer)
    return server


class Opening(NamedTuple):
    """How a stream begins.

    Attributes:
        credentials: What the request brought along.
        place: Its part of what the process can carry.
        form: How replies travel.
        command: The connect command.
        content_type: Of the response.
        prologue: What the response begins with.
    """

    credentials: Credentials
    place: Place
    form: Form
    command: bytes
    content_type: str
    prologue: bytes = b""


async def _serve(
    request: web.Request, server: LiveServer, opening: Opening
) -> web.StreamResponse:
    office: PostOffice = server.engine.part(PostOffice)
    try:
        await office.open()
    except BrokerUnavailable:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"}) from None
    response = web.StreamResponse(headers=HEADERS)
    response.content_type = opening.content_type
    response.charset = "utf-8"
    response.force_close()
    allow_origin(request, response)
    try:
        writer = await response.prepare(request)
    except ConnectionResetError:
        return web.Response(status=499)
    transport = request.transport
    if transport is None or writer is None:
        return response
    # A client waits for the headers only so long, and there may be nothing to say.
    writer.send_headers()
    limit_bytes, form = server.limits.send_buffer_bytes, opening.form
    line = StreamLine(transport, form, limit_bytes, office.new_session(request))
    if opening.prologue:
        line.outlet.write(form.envelop(opening.prologue))
    connection = Connection(server, line, opening.credentials, opening.place)
    line.on_flood = connection.flooded
    line.on_moved = functools.partial(connection.end, Disconnects.FORCE_RECONNECT)
    office.add(line)
    try:
        await _converse(connection, line, opening.command)
    finally:
        office.discard(line)
        connection.closed()
    return response


async def _converse(connection: Connection, line: StreamLine, command: bytes) -> None:
    # The site's coroutines are called in this task, and in those it starts.
    connection.server.engine.orm.adopt()
    said: bytes | str | None = command
    while said is not None:
        await hear(connection, said)
        said = await line.next_post()
