"""The live endpoint for clients that cannot have a WebSocket: a response that goes on, and
posts beside it (``emulation``)."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs, web

from ...codes import Code, Disconnects
from ...exceptions import BrokerUnavailable
from ...web.connections import Connections
from ...web.keys import ENGINE
from ...web.outlet import Outlet
from .connection import Connection
from .dialogue import hear
from .emulation import PostOffice
from .http import allow_origin, body_of
from .protocol.forms import SSE, SSE_UNCHUNKED, STREAM, STREAM_UNCHUNKED, Form
from .server import LiveServer

if TYPE_CHECKING:
    from ...web.handshake import Credentials

POSTS_WAITING = 64
"""Posts of one client that may wait for those before them."""
_LOOK_S = 1.0
_END_DEADLINE_S = 10.0
_HEADERS = {
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
        self._has_ended = asyncio.Event()

    def post(self, data: str) -> None:
        """What came in beside the stream."""
        try:
            self._posts.put_nowait(data)
        except asyncio.QueueFull:
            self.on_flood()

    async def next_post(self) -> str | None:
        """The next one; ``None`` once the stream has ended, or its client is gone."""
        while not self._has_ended.is_set() and self.outlet.is_connected:
            try:
                # aiohttp does not say when the client of a response leaves.
                async with asyncio.timeout(_LOOK_S):
                    return await self._posts.get()
            except TimeoutError:
                continue
        return None

    def end(self, code: Code) -> None:
        """See `Line`: a push, then the end of the response."""
        # Past the outlet: a full buffer must not keep the last word back.
        transport = self.outlet.shut()
        self._over()
        if transport is not None:
            transport.write(self.form.wrap(self.form.codec.disconnect_push(code)))
            asyncio.get_running_loop().call_later(_END_DEADLINE_S, transport.abort)

    def abort(self) -> None:
        """See `Line`."""
        self.outlet.shut()
        self._transport.abort()
        self._over()

    def _over(self) -> None:
        self._has_ended.set()
        if self._posts.empty():
            # Wakes who waits for a post; it is not looked at any more.
            self._posts.put_nowait("")

    def _too_slow(self) -> None:
        self.on_slow()


async def http_stream(request: web.Request) -> web.StreamResponse:
    """A POST whose body is the connect command, and whose answer goes on."""
    server = _server_of(request)
    credentials = server.gatekeeper.inspect(request)
    command = await body_of(request, server.limits.live_command_bytes)
    form = STREAM if request.version >= HttpVersion11 else STREAM_UNCHUNKED
    return await _serve(
        request, server, credentials, form, command, "application/json", b""
    )


async def sse(request: web.Request) -> web.StreamResponse:
    """Server-sent events: the connect command is in the query."""
    server = _server_of(request)
    credentials = server.gatekeeper.inspect(request)
    command = request.query.get("cf_connect", "").encode()
    if not command:
        raise web.HTTPBadRequest(text="no cf_connect in the query\n")
    form = SSE if request.version >= HttpVersion11 else SSE_UNCHUNKED
    return await _serve(
        request, server, credentials, form, command, "text/event-stream", b"\r\n"
    )


def _server_of(request: web.Request) -> LiveServer:
    engine = request.config_dict[ENGINE]
    if engine.part(Connections).is_draining:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
    server: LiveServer = engine.part(LiveServer)
    return server


async def _serve(
    request: web.Request,
    server: LiveServer,
    credentials: Credentials,
    form: Form,
    command: bytes,
    content_type: str,
    opening: bytes,
) -> web.StreamResponse:
    office: PostOffice = server.engine.part(PostOffice)
    try:
        await office.open()
    except BrokerUnavailable:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"}) from None
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type = content_type
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
    limit_bytes = server.limits.send_buffer_bytes
    line = StreamLine(transport, form, limit_bytes, office.new_session(request))
    if opening:
        line.outlet.write(form.envelop(opening))
    connection = Connection(server, line, credentials)
    line.on_flood = functools.partial(connection.end, Disconnects.TOO_MANY_REQUESTS)
    line.on_moved = functools.partial(connection.end, Disconnects.FORCE_RECONNECT)
    office.add(line)
    try:
        await _converse(connection, line, command)
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
