"""A site that takes its time to start, and says in each answer which worker gave it."""

import os
import time

from aiohttp import web

from deployment import application as deployment

time.sleep(float(os.environ.get("TEST_BOOT_S", "0")))


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Worker"] = str(os.getpid())


async def application() -> web.AppRunner:
    runner = await deployment()
    runner.app.on_response_prepare.append(_sign)
    return runner
