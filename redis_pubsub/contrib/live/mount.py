"""Where the live endpoint is in an application."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from aiohttp import web

from ...options import LiveOptions
from ...web.keys import SOCKETS, SocketAddress
from .emulation import emulation
from .event_source import events
from .http import preflight
from .streams import http_stream, sse
from .websocket import opening_of, websocket


def mount(app: web.Application, options: LiveOptions) -> None:
    """Add the live endpoint's addresses."""
    path, posts = options.base_path, options.emulation_path
    app.router.add_route("GET", f"{path}/websocket", websocket)
    app[SOCKETS] = {f"{path}/websocket": SocketAddress(websocket, opening_of)}
    app.router.add_route("GET", f"{path}/sse", sse)
    app.router.add_route("POST", f"{path}/http_stream", http_stream)
    app.router.add_route("POST", posts, emulation)
    for with_preflight in (f"{path}/http_stream", posts):
        app.router.add_route("OPTIONS", with_preflight, preflight)
    # Else the site's pages would be asked: they are served on every other path.
    for methods, address in (
        (("GET",), f"{path}/websocket"),
        (("GET",), f"{path}/sse"),
        (("POST", "OPTIONS"), f"{path}/http_stream"),
        (("POST", "OPTIONS"), posts),
    ):
        app.router.add_route("*", address, functools.partial(_refuse, methods))
    if options.events_path:
        app.router.add_route("*", options.full_events_path, events)


async def _refuse(methods: Sequence[str], request: web.Request) -> web.StreamResponse:
    raise web.HTTPMethodNotAllowed(request.method, methods)
