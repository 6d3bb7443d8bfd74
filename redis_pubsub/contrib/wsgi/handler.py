"""Answers aiohttp's requests with a WSGI application.

The order of one request: look whether it may come in, receive its body, let a thread
work, send what comes back. Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import IO, Any

from aiohttp import HttpVersion11, web
from aiohttp_wsgi.wsgi import WSGIHandler as BufferingHandler

from .body import BodyReceiver
from .environ import EnvironBuilder
from .exchange import Answer, Application, Complete, Exchange, Stream
from .head import Head, HeadChecker
from .options import KIB, WSGIOptions
from .pipe import BlockPipe
from .pool import Load, PoolFull, ThreadPool
from .refusals import (
    ClientLeft,
    Refusal,
    bad_request,
    body_too_large,
    busy,
    failed,
    method_refused,
    nobody,
)
from .responses import complete_response, stream_response

logger = logging.getLogger("redis_pubsub.wsgi")

REFUSED_METHODS = frozenset(("CONNECT", "TRACE", "TRACK"))
WRITE_BYTES = 64 * KIB
"""What one write hands to the transport, and what a client must take per deadline."""


class WSGIHandler(BufferingHandler):
    """Serves a WSGI application; mount it behind everything else.

    ::

        handler = WSGIHandler(application, options=WSGIOptions(threads=16))
        app.router.add_route("*", "/{path_info:.*}", handler.handle_request)
        app.on_cleanup.append(lambda app: handler.close())

    Opens nothing until the first request, so it may be made before a fork. The server
    should run with ``auto_decompress=False``; then the application sees bodies as
    they were sent.

    Args:
        application: Any WSGI application.
        options: Limits and surroundings.
    """

    def __init__(
        self, application: Application, options: WSGIOptions | None = None
    ) -> None:
        super().__init__(application)
        self._options = options or WSGIOptions()
        self._environs = EnvironBuilder(self._options)
        self._bodies = BodyReceiver(self._options)
        self._checker = HeadChecker()
        self._pool: ThreadPool[Answer] = ThreadPool(
            threads=self._options.threads,
            max_waiting=self._options.max_waiting,
            max_streams=self._options.max_streams,
        )

    async def handle_request(  # type: ignore[override]  # a stream is no web.Response
        self, request: web.Request
    ) -> web.StreamResponse:
        """Answer one request. Raises nothing that aiohttp does not expect."""
        try:
            return await self._handle(request)
        except Refusal as refusal:
            return refusal.response()
        except ClientLeft:
            return nobody()

    __call__ = handle_request  # type: ignore[assignment]

    @property
    def load(self) -> Load:
        """How busy the threads are, for metrics."""
        return self._pool.load

    async def handle_expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse a body before it is sent; the ``expect_handler`` of the route."""
        if request.headers.get("Expect", "").lower() != "100-continue":
            return Refusal(417, "unknown expectation").response()
        length = request.content_length
        if length is not None and length > self._options.max_body_bytes:
            return body_too_large().response()
        if self._pool.is_full:
            return busy(self._options.retry_after_s, must_close=True).response()
        if request.version >= HttpVersion11 and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def close(self) -> None:
        """Refuse new requests, end streams, wait for the rest for a bounded time."""
        still_busy = await self._pool.close(self._options.close_timeout_s)
        self._bodies.close()
        if still_busy:
            logger.warning(
                "%d requests still ran after %s s and are left behind",
                still_busy,
                self._options.close_timeout_s,
            )

    def _get_environ(
        self, request: web.Request, body: IO[bytes], content_length: int
    ) -> dict[str, Any]:
        return self._environs.build(request, body, content_length)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        check_request(request)
        if self._pool.is_full:
            is_unread = not request.content.at_eof()
            raise busy(self._options.retry_after_s, must_close=is_unread)
        body, length = await self._bodies.receive(request)
        try:
            environ = self._get_environ(request, body, length)
        except BaseException:
            body.close()
            raise
        exchange = Exchange(
            self._application,
            environ,
            body,
            request=request,
            checker=self._checker,
            loop=asyncio.get_running_loop(),
        )
        try:
            answer = await self._pool.submit(exchange)
            return await self._send(request, answer)
        except PoolFull:
            raise busy(self._options.retry_after_s) from None
        finally:
            exchange.abandon()

    async def _send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if isinstance(answer, Stream):
            return await self._send_stream(request, answer.head, answer.pipe)
        if not isinstance(answer, Complete):
            raise failed()
        if len(answer.body) <= WRITE_BYTES or request.method == "HEAD":
            return complete_response(answer.head, answer.body)
        head = replace(answer.head, length=len(answer.body))
        return await self._send_stream(request, head, WholeBody(answer.body))

    async def _send_stream(
        self, request: web.Request, head: Head, blocks: BlockPipe | WholeBody
    ) -> web.StreamResponse:
        """Send a body piece by piece, as fast as the client takes it."""
        response = stream_response(head)
        if head.length is None and request.version < HttpVersion11:
            # Without chunks, the end of the connection is the end of the body.
            response.force_close()
        try:
            await response.prepare(request)
            while block := await blocks.take():
                await self._write(response, block)
        except (ConnectionError, TimeoutError):
            abort(request)
            return response
        if blocks.is_cut:
            # Nobody may take a part for the whole.
            abort(request)
        else:
            await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, block: bytes) -> None:
        for start in range(0, len(block), WRITE_BYTES):
            async with asyncio.timeout(self._options.write_timeout_s):
                await response.write(memoryview(block)[start : start + WRITE_BYTES])


class WholeBody:
    """A body that is all there, in the shape of a `BlockPipe`."""

    is_cut = False

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def take(self) -> bytes:
        """The body, then ``b""``."""
        body, self._body = self._body, b""
        return body


def check_request(request: web.BaseRequest) -> None:
    """Look for what must not reach an application.

    Raises:
        Refusal: Found it.
    """
    if request.method in REFUSED_METHODS:
        raise method_refused()
    headers = request.headers
    if "Upgrade" in headers and "websocket" in headers["Upgrade"].lower():
        # A proxy that believes in the upgrade must not reuse this connection.
        raise bad_request("there is no websocket here")
    if request.version < HttpVersion11 and "Transfer-Encoding" in headers:
        raise bad_request("chunks need HTTP/1.1")


def abort(request: web.BaseRequest) -> None:
    """Cut the connection, unsent bytes included."""
    if request.transport is not None:
        request.transport.abort()
