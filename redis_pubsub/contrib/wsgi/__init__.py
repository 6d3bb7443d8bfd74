"""Django's pages from an aiohttp application: one process serves sockets and pages.

Takes a WSGI application and knows nothing else of this package.
Contract: docs/topics/serving.rst.
"""

from __future__ import annotations

from ...proxies import Client, TrustedProxies
from .handler import WSGIHandler
from .head import BrokenResponse
from .options import WSGIOptions
from .pool import Load

__all__ = [
    "BrokenResponse",
    "Client",
    "Load",
    "TrustedProxies",
    "WSGIHandler",
    "WSGIOptions",
]
