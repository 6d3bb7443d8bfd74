"""The example's settings, and a failpoint: somebody writes while a page is being made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse

from example.settings import *  # noqa: F403

MIDDLEWARE = [*MIDDLEWARE, "tests.example.interrupted.interrupted"]  # noqa: F405
REDIS_PUBSUB = {**REDIS_PUBSUB, "prefix": "interrupted"}  # noqa: F405


def interrupted(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: in ``/correspondences/1/?before=hello&after=there`` somebody says that
    right before and right after the page's messages are read."""
    from django.db import connection

    def middleware(request: HttpRequest) -> HttpResponse:
        bodies = dict(request.GET.items())

        def read(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            if not sql.startswith('SELECT "chat_message"'):
                return execute(sql, *arguments)
            _say(request.path, bodies.pop("before", ""))
            found = execute(sql, *arguments)
            _say(request.path, bodies.pop("after", ""))
            return found

        with connection.execute_wrapper(read):
            return get_response(request)

    return middleware


def _say(path: str, body: str) -> None:
    """Commit a message, and publish it, as another request would."""
    if body:
        speaker = threading.Thread(target=_save, args=[path, body])
        speaker.start()
        speaker.join()


def _save(path: str, body: str) -> None:
    from django.db import connections

    from example.chat.models import Correspondence

    try:
        correspondence = Correspondence.objects.get(pk=path.split("/")[2])
        author = correspondence.participants.latest("pk")
        correspondence.messages.create(author=author, body=body)
    finally:
        connections.close_all()
