"""Assembling an application: sockets first, everything else to Django."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from aiohttp import web

from ...conf import get_config
from ...consumers import by_name as queues_of
from ...engine import Engine
from ...exceptions import HandlerConfigError
from ...publishing.outbox.relay import Relay
from ...receivers import Receiver, load_receivers
from ...web.connections import Connections
from ...web.keys import ENGINE, PAGES
from ...web.receiving import Receiving
from ...web.redaction import guard_logs
from ...worker.watch import QueueWatch
from ..live.mount import mount
from ..live.procedures import Procedure, by_name
from ..live.server import LiveServer
from ..monitoring import endpoints as monitoring
from ..tasks.consumers import load_all
from .discovery import Served, load_handlers
from .handlers import Route, as_route
from .pages import DjangoPages
from .routes import both_forms
from .runner import Runner
from .siblings import Siblings

logger = logging.getLogger("redis_pubsub.websockets")

# A path may hold an encoded line break, which a plain `.*` would not match.
_EVERY_PATH = r"/{path_info:(?s:.*)}"


def socket_application(
    handlers: Sequence[Served] | None,
    *,
    receivers: Sequence[Receiver] | None = None,
    in_test_thread: bool = False,
) -> web.Application:
    """See `redis_pubsub.contrib.websockets.setup`."""
    app = web.Application()
    queues = queues_of(load_all()) if handlers is None else {}
    if receivers is None:
        receivers = load_receivers() if handlers is None else []
    served = load_handlers() if handlers is None else handlers
    procedures = by_name(each for each in served if isinstance(each, Procedure))
    routes = by_path(filter(None, map(as_route, served)))
    for handler in routes.values():
        add_handler(app, handler)
    _summarize(routes, procedures)
    live = get_config().live_options
    if live.enabled:
        mount(app, live)
    monitoring.mount(app, get_config().health_options)

    async def engine_of(app: web.Application) -> AsyncIterator[None]:
        guard_logs()
        engine = Engine(get_config(), in_test_thread=in_test_thread)
        app[ENGINE] = engine
        if live.enabled:
            engine.part(LiveServer).procedures = procedures
        await engine.start()
        monitoring.start(engine)
        engine.part(Relay).start()
        engine.part(Receiving).start(receivers)
        QueueWatch(engine, queues).start()
        yield
        await engine.close()

    app.cleanup_ctx.append(engine_of)
    app.on_shutdown.append(_hang_up)
    app.on_response_prepare.append(_let_go)
    return app


def by_path(routes: Iterable[Route]) -> dict[str, Route]:
    """A table of handlers.

    Raises:
        HandlerConfigError: Two have one path.
    """
    table: dict[str, Route] = {}
    for route in routes:
        path = route.route[1]
        other = table.setdefault(path, route)
        if other is not route:
            raise HandlerConfigError(
                f"{path} has two handlers: {other.name} and {route.name}"
            )
    return table


def _summarize(routes: Mapping[str, Route], procedures: Mapping[str, Procedure]) -> None:
    """Say in the log what is served, and by what."""
    for path, route in routes.items():
        more = route.describe()
        logger.info("serves %s: %s%s", path, route.name, f" ({more})" if more else "")
    for name, procedure in procedures.items():
        logger.info(
            "serves %s: %s", f"rpc {name!r}" if name else "messages", procedure.path
        )


def add_handler(app: web.Application, handler: Route) -> None:
    """Mount a handler at its path, with and without the final slash."""
    _, path, call = handler.route
    for form in both_forms(path):
        app.router.add_route("*", form, call)


def site_application(
    handlers: Sequence[Served] | None, *, static_files: bool = False
) -> web.Application:
    """See `redis_pubsub.get_application`."""
    app = socket_application(handlers)
    pages = DjangoPages(get_config(), static_files=static_files)
    app[PAGES] = pages
    app.router.add_route(
        "*", _EVERY_PATH, pages.handle_request, expect_handler=pages.handle_expect
    )
    # Before aiohttp waits for its requests: streams would keep it waiting.
    app.on_shutdown.append(_close_pages)
    return app


def make_runner(
    app: web.Application,
    *,
    access_log: logging.Logger | None = None,
    siblings: Siblings | None = None,
) -> Runner:
    """The runner of an application from `site_application`; see `Runner`."""
    config = get_config()
    return Runner(
        app,
        drain_s=config.drain_s,
        access_log=access_log,
        siblings=siblings,
    )


async def _hang_up(app: web.Application) -> None:
    # Under a foreign runner aiohttp has stopped to read by now: say goodbye and go.
    app[ENGINE].part(Connections).hang_up()


async def _let_go(request: web.Request, response: web.StreamResponse) -> None:
    # A client whose connection is about to end must not send its next request on it.
    engine = request.config_dict.get(ENGINE)
    if engine is not None and engine.part(Connections).is_draining:
        response.force_close()


async def _close_pages(app: web.Application) -> None:
    await app[PAGES].close()
