"""A request as WSGI sees it (PEP 3333): bytes, spelled as latin-1 text.

Reads what the client sent, not what aiohttp made of it, because aiohttp's texts are
UTF-8 and WSGI's are not.
"""

from __future__ import annotations

import sys
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ...proxies import TrustedProxies, plain_address
from .files import FileWrapper
from .options import WSGIOptions
from .refusals import ClientLeft, Refusal, bad_request

DEFAULT_PORTS = {"http": "80", "https": "443"}
HIDDEN = frozenset(
    (
        "CONNECTION",
        "CONTENT-LENGTH",
        "KEEP-ALIVE",
        "PROXY",  # would become HTTP_PROXY, which HTTP clients obey (httpoxy)
        "PROXY-AUTHENTICATE",
        "PROXY-AUTHORIZATION",
        "TE",
        "TRAILER",
        "TRAILERS",
        "TRANSFER-ENCODING",
        "UPGRADE",
    )
)
"""Headers that concern the connection or the server, not the application."""


class EnvironBuilder:
    """Builds the environ of each request of one handler."""

    def __init__(self, options: WSGIOptions) -> None:
        self._script_name = options.script_name.encode()
        self._url_scheme = options.url_scheme
        self._proxies = TrustedProxies(options.trusted_proxies)
        self._fixed: dict[str, Any] = {
            "SCRIPT_NAME": self._script_name.decode("latin-1"),
            "wsgi.version": (1, 0),
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.multithread": True,
            "wsgi.multiprocess": options.multiprocess,
            "wsgi.run_once": False,
        }

    def build(
        self, request: web.BaseRequest, body: IO[bytes], length: int
    ) -> dict[str, Any]:
        """The environ of one request.

        Raises:
            Refusal: The request is ambiguous, or outside the mounted path.
            ClientLeft: There is no connection any more.
        """
        transport = request.transport
        if transport is None:
            raise ClientLeft
        environ = self._fixed.copy()
        environ["REQUEST_METHOD"] = request.method
        environ["SERVER_PROTOCOL"] = f"HTTP/{request.version.major}.{request.version.minor}"
        environ["wsgi.input"] = body
        environ["wsgi.errors"] = sys.stderr
        environ["aiohttp.request"] = request
        forwarded = self._add_headers(environ, request, length)
        self._add_target(environ, request)
        scheme = self._url_scheme or (
            "https" if transport.get_extra_info("sslcontext") else "http"
        )
        self._add_addresses(
            environ,
            scheme,
            forwarded,
            transport.get_extra_info("sockname"),
            transport.get_extra_info("peername"),
        )
        return environ

    def _add_headers(
        self, environ: dict[str, Any], request: web.BaseRequest, length: int
    ) -> dict[str, str]:
        """Add headers.

        Returns:
            The forwarding headers, which nobody has believed yet.
        """
        forwarded: dict[str, str] = {}
        has_length = False
        for raw_name, raw_value in request.raw_headers:
            name = raw_name.decode("latin-1").upper()
            # "X_Forwarded_For" would end in the same key as "X-Forwarded-For".
            if "_" in name:
                continue
            value = raw_value.decode("latin-1")
            if name in HIDDEN:
                has_length |= name in ("CONTENT-LENGTH", "TRANSFER-ENCODING")
            elif TrustedProxies.is_forwarding_header(name):
                before = forwarded.get(name)
                forwarded[name] = value if before is None else f"{before},{value}"
            elif name == "CONTENT-TYPE":
                if environ.setdefault("CONTENT_TYPE", value) != value:
                    raise bad_request("two content types")
            else:
                key = "HTTP_" + name.replace("-", "_")
                before = environ.get(key)
                if before is not None:
                    value = before + ("; " if name == "COOKIE" else ",") + value
                environ[key] = value
        if has_length:
            environ["CONTENT_LENGTH"] = str(length)
        if getattr(request.content, "total_compressed_bytes", None) is not None:
            # The server was started with auto_decompress, so this is no longer true.
            environ.pop("HTTP_CONTENT_ENCODING", None)
        return forwarded

    def _add_target(self, environ: dict[str, Any], request: web.BaseRequest) -> None:
        target = request.raw_path.encode("utf-8", "surrogateescape")
        environ["RAW_URI"] = environ["REQUEST_URI"] = target.decode("latin-1")
        path, _, query = target.partition(b"#")[0].partition(b"?")
        if not path.startswith(b"/"):
            path = self._path_of_absolute(path, environ.get("HTTP_HOST", ""))
        path = unquote_to_bytes(path)
        script_name = self._script_name
        if script_name:
            if path != script_name and not path.startswith(script_name + b"/"):
                raise Refusal(404, "not found", must_close=False)
            path = path[len(script_name) :]
        environ["PATH_INFO"] = path.decode("latin-1")
        environ["QUERY_STRING"] = query.decode("latin-1")

    def _path_of_absolute(self, target: bytes, host: str) -> bytes:
        """The path in ``http://host/path``; the host must be the one in ``Host``."""
        scheme, separator, rest = target.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if not separator or scheme.lower() not in (b"http", b"https"):
            raise bad_request("unknown request target")
        if authority.decode("latin-1").lower() != host.lower():
            raise bad_request("two hosts")
        return slash + path or b"/"

    def _add_addresses(
        self,
        environ: dict[str, Any],
        scheme: str,
        forwarded: dict[str, str],
        sockname: object,
        peername: object,
    ) -> None:
        peer, peer_port = host_and_port(peername)
        client = self._proxies.client(peer, forwarded)
        for name, value in client.headers.items():
            environ["HTTP_" + name.replace("-", "_")] = value
        environ["wsgi.url_scheme"] = client.scheme or scheme
        environ["REMOTE_ADDR"] = client.address
        if peer_port and not client.is_forwarded:
            environ["REMOTE_PORT"] = peer_port
        server, port = host_and_port(sockname)
        if not server:
            # A unix socket has neither; what the client called us is the best name.
            server, port = split_host(environ.get("HTTP_HOST", ""))
        environ["SERVER_NAME"] = server or "localhost"
        environ["SERVER_PORT"] = port or DEFAULT_PORTS[environ["wsgi.url_scheme"]]


def host_and_port(name: object) -> tuple[str, str]:
    """Address and port of a socket's end; two empty texts for a unix socket."""
    if isinstance(name, tuple):
        return plain_address(name[0]), str(name[1])
    return "", ""


def split_host(host: str) -> tuple[str, str]:
    """``example.org:8000`` and ``[::1]:8000`` in two; the port may be empty."""
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name.strip("[]"), port
    return host.strip("[]"), ""
