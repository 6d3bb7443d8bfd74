"""Answers that the handler gives itself, without asking the application.

A fixed vocabulary: a refusal never quotes the request, an exception or a setting.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

ALLOWED = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class Refusal(Exception):
    """A request that the application never sees.

    Attributes:
        status: Of the answer.
        text: Body of the answer.
        headers: More headers of the answer.
        must_close: Whether the connection cannot be used again, because the rest of
            the request was not read or is not understood.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        headers: Mapping[str, str] | None = None,
        must_close: bool = True,
    ) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.headers = headers
        self.must_close = must_close

    def response(self) -> web.Response:
        """The refusal as aiohttp sends it."""
        response = web.Response(status=self.status, text=self.text, headers=self.headers)
        if self.must_close:
            response.force_close()
        return response


def bad_request(text: str) -> Refusal:
    """400: nobody can say for sure what this request means."""
    return Refusal(400, text)


def method_refused() -> Refusal:
    """405: methods that belong to proxies and debuggers."""
    return Refusal(405, "method not allowed", headers={"Allow": ALLOWED})


def body_too_large() -> Refusal:
    """413: over `WSGIOptions.max_body_bytes`."""
    return Refusal(413, "request body too large")


def body_too_slow() -> Refusal:
    """408: over the deadlines of `WSGIOptions`."""
    return Refusal(408, "request body too slow")


def busy(retry_after_s: int, *, must_close: bool = False) -> Refusal:
    """503: a bound is reached."""
    headers = {"Retry-After": str(retry_after_s)}
    return Refusal(503, "busy, try again", headers=headers, must_close=must_close)


def failed() -> Refusal:
    """500: the application failed; the log knows how."""
    return Refusal(500, "internal server error", must_close=False)


class ClientLeft(Exception):
    """The connection ended before the request did: there is nobody to answer."""


def nobody() -> web.Response:
    """What the access log gets to see when the client left (nginx's 499)."""
    response = web.Response(status=499, reason="Client Closed Request")
    response.force_close()
    return response
