"""A checked head as an aiohttp response, byte for byte.

aiohttp writes headers as UTF-8 and knows no other way. WSGI's are bytes. Where they
are not UTF-8, the responses here translate what aiohttp is about to send.
"""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from .head import Head


class LatinHeaders(web.StreamResponse):
    """Sends its head as latin-1 instead of UTF-8.

    Needs two private names of aiohttp (``_write_headers``, ``_headers_buf``), so it is
    used for such heads only.
    """

    _send_headers_immediately = False

    async def _write_headers(self) -> None:
        await super()._write_headers()
        writer = self._payload_writer
        head = getattr(writer, "_headers_buf", None)
        if head is None:
            raise RuntimeError("this aiohttp does not keep a head to translate")
        writer._headers_buf = head.decode().encode("latin-1", "replace")  # type: ignore[union-attr]


class LatinResponse(LatinHeaders, web.Response):
    """A complete response with a latin-1 head."""


def complete_response(head: Head, body: bytes) -> web.Response:
    """A response that aiohttp sends in one piece."""
    kind = LatinResponse if head.is_latin else web.Response
    response = kind(
        status=head.status, reason=head.reason, headers=_headers(head), body=body
    )
    if head.wants_close:
        response.force_close()
    return response


def stream_response(head: Head) -> web.StreamResponse:
    """A response whose body is still to come."""
    kind = LatinHeaders if head.is_latin else web.StreamResponse
    response = kind(status=head.status, reason=head.reason, headers=_headers(head))
    if head.wants_close:
        response.force_close()
    return response


def _headers(head: Head) -> CIMultiDict[str]:
    headers = CIMultiDict(head.headers)
    if head.length is not None and not head.is_bodiless:
        headers["Content-Length"] = str(head.length)
    return headers
