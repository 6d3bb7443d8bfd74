"""What the endpoints that are not sockets have in common: bodies, origins, preflights."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from ...web.handshake import Gatekeeper
from ...web.keys import ENGINE

BODY_S = 15.0
"""How long a body may take to arrive."""


async def body_of(request: web.Request, limit_bytes: int) -> bytes:
    """A request's body.

    Raises:
        web.HTTPRequestEntityTooLarge: It is over the limit.
        web.HTTPRequestTimeout: It does not come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.content.iter_any():
                body += part
                if len(body) > limit_bytes:
                    raise web.HTTPRequestEntityTooLarge(
                        max_size=limit_bytes, actual_size=len(body)
                    )
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return bytes(body)


def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Let the page that asked read the answer; its origin has been checked."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        response.headers[hdrs.VARY] = hdrs.ORIGIN


async def preflight(
    request: web.Request, method: str = hdrs.METH_POST
) -> web.StreamResponse:
    """Answer a browser that asks whether a page of another origin may ask."""
    gatekeeper: Gatekeeper = request.config_dict[ENGINE].part(Gatekeeper)
    gatekeeper.inspect(request)
    response = web.Response(status=204)
    allow_origin(request, response)
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = f"{method}, OPTIONS"
    response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "300"
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS)
    if asked:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
    return response
