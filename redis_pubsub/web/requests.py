"""What every request is looked at for, before anybody does anything with it.

aiohttp's parser refuses nearly all that two readers could take for different requests;
here is what it takes. A proxy before us may have read it in another way, so the answer is
400 and the end of the connection: what stands behind it is nobody's request.

Source: RFC 9112, sections 3.2, 6.1 and 11.2.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_parser import HttpRequestParser
from yarl import URL

if TYPE_CHECKING:
    import asyncio

    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.web_protocol import RequestHandler

SERVER = "django-redis-pubsub"
"""What answers call themselves, without versions."""
REFUSED_METHODS = frozenset(("CONNECT", "TRACE", "TRACK"))
_NOWHERE = URL("/")
_LENGTHS = ("CONTENT-LENGTH", "TRANSFER-ENCODING")
_VERSIONS = (HttpVersion10, HttpVersion11)
# Names, addresses and a port; what a Host may not have ends up in links and redirects.
_host = re.compile(r"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]*")
_PARSED_BY = ("max_line_size", "max_headers", "max_field_size", "auto_decompress")
_READ_BYTES = 65_536
_key = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def fault_of(request: web.BaseRequest) -> web.HTTPException | None:
    """Why a request is not to be carried out; ``None`` if nothing speaks against it."""
    headers = request.headers
    if request.method in REFUSED_METHODS:
        return web.HTTPMethodNotAllowed(
            request.method, ("GET", "POST"), text="method not allowed\n"
        )
    if request.version not in _VERSIONS:
        return _bad("not HTTP/1.0 or HTTP/1.1")
    host = headers.get(hdrs.HOST, "")
    if not _host.fullmatch(host):
        return _bad("not a host")
    target = request.raw_path
    if not target.startswith("/") and not _names(target, host):
        return _bad("not a target here")
    coding = headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None and (
        coding.lower() != "chunked" or request.version < HttpVersion11
    ):
        return _bad("not a transfer coding here")
    for name, _ in request.raw_headers:
        if b"_" in name and _dashed(name) in _LENGTHS:
            return _bad("not a header")
    if is_upgrade(request):
        return fault_of_upgrade(request)
    return None


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether a client asks for a WebSocket."""
    return "websocket" in request.headers.get(hdrs.UPGRADE, "").lower()


def fault_of_upgrade(request: web.BaseRequest) -> web.HTTPException | None:
    """What aiohttp would find as well, but answer on a connection that goes on, in words
    of the client's."""
    headers = request.headers
    if headers.getall(hdrs.SEC_WEBSOCKET_VERSION, []) != ["13"]:
        return web.HTTPUpgradeRequired(
            text="WebSocket version 13 is spoken here\n",
            headers={hdrs.SEC_WEBSOCKET_VERSION: "13"},
        )
    if (
        request.method != "GET"
        or request.version < HttpVersion11
        or not _wants_upgrade(headers.getall(hdrs.CONNECTION, ()))
        or not _key.fullmatch(headers.get(hdrs.SEC_WEBSOCKET_KEY, ""))
        or request.content_length
        or hdrs.TRANSFER_ENCODING in headers
    ):
        return _bad("not a WebSocket handshake")
    return None


def _wants_upgrade(connection: Sequence[str]) -> bool:
    """Whether a ``Connection`` header names ``upgrade``, by itself and not within a word:
    else a proxy, and the parser, have not seen one."""
    names = ",".join(connection).lower().split(",")
    return any(name.strip() == "upgrade" for name in names)


def _names(target: str, host: str) -> bool:
    """Whether a target with a host in it names the one in ``Host``."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return False
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return authority.lower() == host.lower()


def _dashed(name: bytes) -> str:
    return name.decode("latin-1").upper().replace("_", "-")


def _bad(text: str) -> web.HTTPException:
    return web.HTTPBadRequest(text=f"{text}\n")


async def _refused(fault: Exception) -> web.StreamResponse:
    if isinstance(fault, web.HTTPException):
        fault.force_close()
        fault.headers[hdrs.SERVER] = SERVER
    raise fault


async def tidy(request: web.Request, response: web.StreamResponse) -> None:
    """Before an answer leaves: no versions in it, and no more requests behind a WebSocket
    that did not come about. An ``on_response_prepare`` signal."""
    if response.headers.get(hdrs.SERVER) == SERVER_SOFTWARE:
        response.headers[hdrs.SERVER] = SERVER
    if response.status != 101 and is_upgrade(request):
        # A proxy that believes in the upgrade must not reuse this connection.
        response.force_close()


class StrictServer(web.Server):
    """aiohttp's server, which says nothing of its parser's errors, and lets connections in
    by an entrance, where it has one.

    Attributes:
        entrance: Makes the protocol that a connection begins with; aiohttp's by default.
    """

    entrance: Callable[[], asyncio.Protocol] | None = None

    def __call__(self) -> RequestHandler:
        made: Any = self.handler() if self.entrance is None else self.entrance()
        return cast("RequestHandler", made)

    def handler(self, refusal: Exception | None = None) -> RequestHandler:
        """aiohttp's protocol for one connection.

        Args:
            refusal: What is raised instead of carrying its first request out.
        """
        made = _Protocol(self, loop=self._loop, **self._kwargs)
        made.refusal = refusal
        return made

    def parser(self, protocol: Any) -> HttpRequestParser:
        """A parser like those of its connections, for one request."""
        known = {name: self._kwargs[name] for name in _PARSED_BY if name in self._kwargs}
        return HttpRequestParser(protocol, self._loop, _READ_BYTES, **known)


class _Protocol(web.RequestHandler):
    """aiohttp's, whose answer to what is no HTTP quotes the bytes it was sent."""

    __slots__ = ("refusal",)
    refusal: Exception | None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        logged = super().handle_error(request, status, exc, message)
        answer = web.Response(status=logged.status, headers={hdrs.SERVER: SERVER})
        answer.text = f"{answer.reason}\n"
        answer.force_close()
        return answer


def strict(server: web.Server, on_refused: Callable[[], None]) -> StrictServer:
    """Have a server look at each request, and keep its errors' texts to itself.

    Args:
        server: As an application has made it.
        on_refused: Called for each request that is not carried out.
    """
    handle: Any = server.request_handler

    def look(request: web.Request) -> Awaitable[web.StreamResponse]:
        fault = fault_of(request)
        connection: Any = request.protocol
        if fault is None and connection.refusal is None:
            # No frame of ours stays on the stack while a socket is open.
            answer: Awaitable[web.StreamResponse] = handle(request)
            return answer
        if fault is None:
            refusal, connection.refusal = connection.refusal, None
            return _refused(refusal)
        on_refused()
        return _refused(fault)

    server.request_handler = look  # type: ignore[assignment]
    make: Any = server.request_factory

    def made(message: RawRequestMessage, *others: Any) -> web.BaseRequest:
        if message.url is None:
            # "CONNECT " and a line's end: the parser takes it, and the task that should
            # answer dies of it, with the connection open for ever (aiohttp 3.14.5).
            message = message._replace(url=_NOWHERE)
        request: web.BaseRequest = make(message, *others)
        return request

    server.request_factory = made
    # aiohttp's application makes it, and asks nobody of which class.
    server.__class__ = StrictServer
    return cast("StrictServer", server)
