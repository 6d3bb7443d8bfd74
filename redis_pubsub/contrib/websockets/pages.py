"""Django's pages in the application that serves the sockets."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import Resolver404, resolve

from ...conf import Config
from ..wsgi import WSGIHandler, WSGIOptions


class DjangoPages:
    """Serves what no socket handler has taken.

    Args:
        config: The settings.
        static_files: Serve static files as ``runserver`` does: for development.
    """

    def __init__(self, config: Config, *, static_files: bool = False) -> None:
        application: Any = get_wsgi_application()
        if static_files:
            from django.contrib.staticfiles.handlers import StaticFilesHandler

            application = StaticFilesHandler(application)
        # Imports the URLconf here rather than on the event loop, at the first request.
        _resolves("/")
        self._handler = WSGIHandler(
            application,
            WSGIOptions(trusted_proxies=config.trusted_proxies, multiprocess=True),
        )

    def knows(self, path: str) -> bool:
        """Whether the URLconf has a page here, or would redirect to one."""
        forms = [path, path + "/"] if settings.APPEND_SLASH else [path]
        return any(_resolves(form) for form in forms)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        return await self._handler.handle_request(request)

    async def handle_expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer ``Expect: 100-continue``, or refuse the body that would follow."""
        return await self._handler.handle_expect(request)

    async def close(self) -> None:
        """Wait for what runs, bounded."""
        await self._handler.close()


def _resolves(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
