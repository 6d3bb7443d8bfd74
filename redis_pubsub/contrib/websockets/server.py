"""Assembling an application: sockets first, everything else to Django."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from django.apps import apps

from ...conf import get_config
from ...engine import Engine
from .connections import Connections
from .discovery import load_handlers
from .handlers import Route
from .keys import ENGINE, PAGES
from .pages import DjangoPages
from .routes import both_forms
from .runner import Runner


def setup(
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    handlers: list[Route] | None = None,
    in_test_thread: bool = False,
) -> web.Application:
    """An aiohttp application with the handlers of all installed apps.

    Args:
        loop: Accepted for 1.0's ``deployment.py``, and ignored.
        handlers: These instead of the discovered ones.
        in_test_thread: See `redis_pubsub.db.Orm`.

    Raises:
        HandlerConfigError: A ``websockets`` module does not import or names something
            that is no handler.
    """
    _set_up_django()
    app = web.Application()
    for handler in load_handlers() if handlers is None else handlers:
        add_handler(app, handler)

    async def engine_of(app: web.Application) -> AsyncIterator[None]:
        engine = Engine(get_config(), in_test_thread=in_test_thread)
        app[ENGINE] = engine
        await engine.start()
        yield
        await engine.close()

    app.cleanup_ctx.append(engine_of)
    app.on_shutdown.append(_hang_up)
    return app


def add_handler(app: web.Application, handler: Route) -> None:
    """Mount a handler at its path, with and without the final slash."""
    _, path, call = handler.route
    for form in both_forms(path):
        app.router.add_route("*", form, call)


def get_application(
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    handlers: list[Route] | None = None,
    static_files: bool = False,
) -> web.Application:
    """`setup`, with Django's WSGI application behind the sockets: one process serves all.

    Args:
        loop: Accepted for 1.0's sake, and ignored.
        handlers: These instead of the discovered ones.
        static_files: Serve static files as ``runserver`` does: for development.
    """
    app = setup(handlers=handlers)
    pages = DjangoPages(get_config(), static_files=static_files)
    app[PAGES] = pages
    app.router.add_route("*", "/{path_info:.*}", pages.handle_request)

    async def close_pages(app: web.Application) -> None:
        await pages.close()

    app.on_cleanup.append(close_pages)
    return app


def get_runner_factory(
    *, static_files: bool = False
) -> Callable[[], Awaitable[web.AppRunner]]:
    """What ``deployment.py`` exports: gunicorn's aiohttp worker calls it after the fork.

    The runner it makes closes sockets before aiohttp stops to hear them, keeps request
    bodies as they were sent, and wakes at once on SIGTERM.
    """
    # What is wrong with the site is told by the master, before any worker exists.
    _set_up_django()
    load_handlers()

    async def application() -> web.AppRunner:
        return make_runner(get_application(static_files=static_files))

    return application


def make_runner(app: web.Application) -> Runner:
    """The runner of an application from `get_application`."""
    config = get_config()
    return Runner(app, drain_s=config.drain_s, hides_tokens=config.token_in_query)


async def _hang_up(app: web.Application) -> None:
    # Under a foreign runner aiohttp has stopped to read by now: say goodbye and go.
    app[ENGINE].part(Connections).hang_up()


def _set_up_django() -> None:
    if not apps.ready:
        import django

        django.setup()
