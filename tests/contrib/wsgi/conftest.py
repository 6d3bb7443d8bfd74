"""Servers for these tests: ours in this process, and three in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from redis_pubsub.contrib.wsgi import WSGIHandler, WSGIOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
    "PYTHONWARNINGS": "ignore",
}


@dataclass
class Served:
    """An application behind our handler, in this process."""

    port: int
    handler: WSGIHandler
    runner: web.AppRunner


@pytest_asyncio.fixture
async def serve():
    """``await serve(application, **options)`` starts a server of ours."""
    started: list[Served] = []

    async def start(application, *, middlewares=(), runner=None, unix_path="", **options):
        handler = WSGIHandler(application, options=WSGIOptions(**options))
        app = web.Application(middlewares=middlewares)
        app.router.add_route(
            "*",
            "/{path_info:.*}",
            handler.handle_request,
            expect_handler=handler.handle_expect,
        )
        runner = web.AppRunner(
            app, **{"auto_decompress": False, "access_log": None, **(runner or {})}
        )
        await runner.setup()
        if unix_path:
            await web.UnixSite(runner, unix_path).start()
            port = 0
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
        started.append(Served(port, handler, runner))
        return started[-1]

    yield start
    for served in started:
        await served.handler.close()
        await served.runner.cleanup()


def running(*command: str) -> Iterator[int]:
    """A server in a process of its own; yields its port.

    It inherits the listening socket, so that nobody has to wait for it or to guess a
    free port: early clients stand in the backlog.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [part.format(fd=listener.fileno()) for part in command],
            env=ENVIRONMENT,
            cwd=HERE,
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "4"),
    *("--bind", "fd://{fd}", "--no-control-socket"),
)


@pytest.fixture(scope="session")
def ours() -> Iterator[int]:
    """``apps.application`` behind our handler."""
    yield from running(sys.executable, "serve.py", "apps", "{fd}")


@pytest.fixture(scope="session")
def optimized() -> Iterator[int]:
    """The same under ``python -O``."""
    yield from running(sys.executable, "-O", "serve.py", "apps", "{fd}")


@pytest.fixture(scope="session")
def gunicorn() -> Iterator[int]:
    """The same application behind gunicorn's own threaded worker: the oracle."""
    yield from running(*GUNICORN, "apps:application")


@pytest.fixture(scope="session")
def django_site() -> Iterator[int]:
    """``django_site.application`` behind our handler."""
    yield from running(sys.executable, "serve.py", "django_site", "{fd}")


@pytest.fixture(scope="session")
def django_gunicorn() -> Iterator[int]:
    """The same site behind gunicorn."""
    yield from running(*GUNICORN, "django_site:application")
