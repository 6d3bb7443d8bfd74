"""Where the live endpoint is in an application."""

from __future__ import annotations

from aiohttp import web

from ...options import LiveOptions
from .emulation import emulation
from .http import not_allowed, preflight
from .streams import http_stream, sse
from .websocket import websocket


def mount(app: web.Application, options: LiveOptions) -> None:
    """Add the live endpoint's addresses."""
    path, posts = options.base_path, options.emulation_path
    app.router.add_route("GET", f"{path}/websocket", websocket)
    app.router.add_route("GET", f"{path}/sse", sse)
    app.router.add_route("POST", f"{path}/http_stream", http_stream)
    app.router.add_route("POST", posts, emulation)
    for with_preflight in (f"{path}/http_stream", posts):
        app.router.add_route("OPTIONS", with_preflight, preflight)
    # Not Django's: its 404 would say that nothing is here.
    for each in ("websocket", "sse", "http_stream"):
        app.router.add_route("*", f"{path}/{each}", not_allowed)
    app.router.add_route("*", posts, not_allowed)
