"""``/healthz``, ``/readyz`` and ``/metrics`` in an application."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from aiohttp import hdrs, web

from ...engine import Engine
from ...options import HealthOptions
from ...web.keys import ENGINE, PAGES, QUIET
from .access import may_read
from .health import Health
from .workers import Workers

_NOT_STORED = {hdrs.CACHE_CONTROL: "no-store"}
NOT_INSTALLED = "no metrics here: pip install django-redis-pubsub[prometheus]\n"
NOT_FOR_YOU = (
    "metrics are for this machine, or for whoever sends the token of "
    'REDIS_PUBSUB["health"]["metrics_token"] as Authorization: Bearer\n'
)


def mount(app: web.Application, options: HealthOptions) -> None:
    """Add the addresses that are switched on."""
    for path, answer in (
        (options.healthz, healthz),
        (options.readyz, readyz),
        (options.metrics, metrics if find_spec("prometheus_client") else no_metrics),
    ):
        if path:
            app.router.add_get(path, answer)


def start(engine: Engine) -> None:
    """What a serving engine needs for it; ends with the engine."""
    engine.part(Health)
    if engine.config.health_options.metrics and find_spec("prometheus_client"):
        engine.part(Workers).start()


async def healthz(request: web.Request) -> web.StreamResponse:
    """200 as long as the event loop runs: asks nobody."""
    request[QUIET] = True
    return web.json_response({"alive": True}, headers=_NOT_STORED)


async def readyz(request: web.Request) -> web.StreamResponse:
    """200, or 503 and what is wrong."""
    request[QUIET] = True
    problems = await request.config_dict[ENGINE].part(Health).look()
    if not problems:
        return web.json_response({"ready": True}, headers=_NOT_STORED)
    return web.json_response(
        {"ready": False, "problems": problems}, status=503, headers=_NOT_STORED
    )


async def metrics(request: web.Request) -> web.StreamResponse:
    """The numbers of all workers, for those who may see them."""
    from .exposition import CONTENT_TYPE, page

    engine = request.config_dict[ENGINE]
    if not may_read(request, engine.config.health_options.metrics_token):
        engine.metrics.count("metrics_refused")
        return web.Response(status=403, text=NOT_FOR_YOU, headers=_NOT_STORED)
    request[QUIET] = True
    # So that `is_ready` is of now, also where nobody asks /readyz.
    await engine.part(Health).look()
    workers: Workers = engine.part(Workers)
    body = await asyncio.to_thread(page, await workers.numbers(), is_alone=workers.is_alone)
    return web.Response(body=body, headers={**_NOT_STORED, hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def no_metrics(request: web.Request) -> web.StreamResponse:
    """Where the package is missing: the site's own page at this path, if it has one."""
    pages = request.config_dict.get(PAGES)
    if pages is not None and pages.knows(request.path):
        return await pages.handle_request(request)
    return web.Response(status=404, text=NOT_INSTALLED, headers=_NOT_STORED)
