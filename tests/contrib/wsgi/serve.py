"""Serves ``MODULE:application`` with our handler: ``python serve.py MODULE FD``.

A process of its own, so that tables of requests also run under ``python -O``, and so
that memory can be measured. Listens on the socket it inherits.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from importlib import import_module

from aiohttp import web

from redis_pubsub.contrib.wsgi import WSGIHandler


async def serve(module: str, fd: int) -> None:
    handler = WSGIHandler(import_module(module).application)
    app = web.Application()
    app.router.add_route("*", "/{path_info:.*}", handler.handle_request)
    runner = web.AppRunner(app, auto_decompress=False, access_log=None)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=fd)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
