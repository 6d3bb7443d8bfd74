"""The ways in, for a ``deployment.py``: they import before Django is set up, and set it up.

What they assemble is in ``server``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from ...receivers import Receiver
    from .discovery import Served


def set_up_django() -> None:
    """``django.setup()``, unless somebody did."""
    from django.apps import apps

    if not apps.ready:
        import django

        django.setup()


def check_settings() -> None:
    """Run this app's system checks, since gunicorn runs none: print what is doubtful,
    refuse what is wrong."""
    from django.core.checks import run_checks
    from django.core.management.base import SystemCheckError

    messages = [
        found for found in run_checks(tags=["redis_pubsub"]) if not found.is_silenced()
    ]
    text = "\n".join(map(str, messages))
    if any(message.is_serious() for message in messages):
        raise SystemCheckError(f"the settings are wrong:\n{text}")
    if messages:
        sys.stderr.write(f"{text}\n")


def setup(
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    handlers: Sequence[Served] | None = None,
    receivers: Sequence[Receiver] | None = None,
    in_test_thread: bool = False,
) -> web.Application:
    """An aiohttp application with the handlers of all installed apps.

    Args:
        loop: Accepted for 1.0's ``deployment.py``, and ignored.
        handlers: These instead of the discovered ones.
        receivers: The same; by default none where ``handlers`` are given.
        in_test_thread: See `redis_pubsub.db.Orm`.

    Raises:
        HandlerConfigError: A ``websockets`` module does not import or names something
            that is no handler.
    """
    set_up_django()
    from .server import socket_application

    return socket_application(handlers, receivers=receivers, in_test_thread=in_test_thread)


def get_application(
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    handlers: Sequence[Served] | None = None,
    static_files: bool = False,
) -> web.Application:
    """`setup`, with Django's WSGI application behind the sockets: one process serves all.

    Args:
        loop: Accepted for 1.0's sake, and ignored.
        handlers: These instead of the discovered ones.
        static_files: Serve static files as ``runserver`` does: for development.

    Raises:
        HandlerConfigError: See `setup`.
        SystemCheckError: The settings are wrong.
    """
    set_up_django()
    check_settings()
    from .server import site_application

    return site_application(handlers, static_files=static_files)


def get_runner_factory(
    *, static_files: bool = False, pages: bool = True
) -> Callable[[], Awaitable[web.AppRunner]]:
    """What ``deployment.py`` exports: gunicorn's aiohttp worker calls it after the fork.

    The runner it makes closes sockets before aiohttp stops to hear them, keeps request
    bodies as they were sent, and wakes at once on SIGTERM.

    Args:
        static_files: See `get_application`.
        pages: ``False`` for a process of sockets alone: Django's pages are another's.

    Raises:
        HandlerConfigError: See `setup`; told here, before any worker serves.
        SystemCheckError: The settings are wrong.
    """
    set_up_django()
    check_settings()
    from ...receivers import load_receivers
    from ...web import garbage
    from .discovery import load_handlers
    from .server import make_runner, site_application, socket_application
    from .siblings import Siblings

    # Each worker finds the same again; what is broken is told before there are any.
    load_handlers()
    load_receivers()

    async def application() -> web.AppRunner:
        if pages:
            app = site_application(None, static_files=static_files)
        else:
            app = socket_application(None)
        garbage.relax()
        return make_runner(app, siblings=Siblings())

    return application
