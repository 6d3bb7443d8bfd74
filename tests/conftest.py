"""One private Redis per run, a served application per test, and the guard against
blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from blockbuster import BlockBuster, blockbuster_ctx
from django.db.backends.utils import CursorWrapper

from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer

MUST = bool(os.environ.get("REQUIRE_SERVICES"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis, private to the run."""
    try:
        server = RedisServer()
    except RuntimeError as error:
        if MUST:
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def prefix() -> str:
    """A key prefix of the test's own."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def site(settings: Any, redis_server: RedisServer, prefix: str) -> Iterator[dict[str, Any]]:
    """``REDIS_PUBSUB`` pointing at the real Redis; change it by assigning a new dict."""
    values = {"url": redis_server.url, "prefix": prefix}
    settings.REDIS_PUBSUB = values
    yield values
    publisher.close()


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test fails if anything of ours blocks the event loop."""
    if "may_block" in request.keywords:
        yield
        return
    with blockbuster_ctx("redis_pubsub") as blockbuster:
        _allow_imports(blockbuster)
        yield


def _allow_imports(blockbuster: BlockBuster) -> None:
    # Reading a module's or a script's file at its first import is not a wait for others.
    for name in (
        "io.BufferedReader.read",
        "io.TextIOWrapper.read",
        "os.stat",
        "os.path.exists",
    ):
        function = blockbuster.functions.get(name)
        if function is not None:
            function.deactivate()


Serve = Callable[..., Awaitable["Served"]]


class Served:
    """An application on a free port, and clients of it."""

    def __init__(
        self, runner: web.AppRunner, port: int, http: aiohttp.ClientSession
    ) -> None:
        self.runner = runner
        self.app = runner.app
        self.port = port
        self.http = http
        self.url = f"http://127.0.0.1:{port}"

    @property
    def engine(self) -> Any:
        from redis_pubsub.web.keys import ENGINE

        return self.app[ENGINE]

    async def connect(self, path: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        return await self.http.ws_connect(self.url + path, **options)


@pytest.fixture
async def serve(site: dict[str, Any]) -> AsyncIterator[Serve]:
    """Serve handlers: ``served = await serve(handler, …)``, by aiohttp's own runner or
    another."""
    from redis_pubsub.contrib.websockets import setup

    runners: list[web.AppRunner] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(
        *handlers: Any,
        app: web.Application | None = None,
        run: Callable[[web.Application], web.AppRunner] = web.AppRunner,
    ) -> Served:
        app = setup(handlers=list(handlers)) if app is None else app
        runner = run(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = aiohttp.ClientSession()
        sessions.append(http)
        return Served(runner, runner.addresses[0][1], http)

    yield start
    for session in sessions:
        await session.close()
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for something to become true, bounded: ``await until(lambda: …)``."""

    async def wait(condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def user(django_user_model: Any) -> Any:
    return django_user_model.objects.create_user("ada", password="secret")


@pytest.fixture
def other_user(django_user_model: Any) -> Any:
    return django_user_model.objects.create_user("bob", password="secret")


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL that any thread executes from here on."""
    executed: list[str] = []
    execute = CursorWrapper.execute

    def note(cursor: Any, sql: str, params: Any = None) -> Any:
        executed.append(sql)
        return execute(cursor, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", note)
    return executed
