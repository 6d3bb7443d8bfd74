"""The example site as it is deployed: gunicorn with two workers and a real Redis."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from redis_pubsub.testing import RedisServer
from tests.processes import Process, free_port

from .processtree import children, owners_of_clients

WORKERS = 2
PEOPLE = ("ada", "bob", "eve")
RECEIVE_S = 5.0

Socket = aiohttp.ClientWebSocketResponse


class Chat:
    """Ada, Bob and Eve's site, as a context: running inside.

    Attributes:
        url: Where it is.
        passwords: By user name.
        environment: What its processes read.
        cookies: By user name, of whoever has logged in: hashing a password takes as long
            as many a test.
    """

    def __init__(self, directory: Path, redis_url: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.passwords = {name: secrets.token_hex(8) for name in PEOPLE}
        self.environment = {**site_environment(directory, redis_url), **environment}
        self.cookies: dict[str, dict[str, str]] = {}
        self._users = directory / "users.txt"
        self._gunicorn: Process | None = None

    def __enter__(self) -> Chat:
        lines = [f"{name} {word}\n" for name, word in self.passwords.items()]
        self._users.write_text("".join(lines))
        self.manage("migrate", "--verbosity", "0")
        self.manage("seed_chat", str(self._users))
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._process:
            if kind is None:
                assert self._process.end() == 0, self._process.output
                assert "Traceback" not in self._process.output, self._process.output

    @property
    def _process(self) -> Process:
        assert self._gunicorn is not None, "started"
        return self._gunicorn

    def manage(self, *command: str) -> str:
        """A command of ``manage.py`` in a process of its own; what it printed."""
        with Process("manage.py", *command, env=self.environment) as process:
            assert process.wait() == 0, process.output
        return process.output

    def start(self) -> None:
        """Serve, until every worker does."""
        arguments = [
            *("-m", "gunicorn", "deployment:application"),
            *("--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)),
            *("--worker-class", "aiohttp.worker.GunicornWebWorker", "--no-control-socket"),
        ]
        self._gunicorn = Process(*arguments, env=self.environment)
        self._gunicorn.wait_for("Booting worker", times=WORKERS)
        self._gunicorn.wait_for_port(self.port)

    @contextmanager
    def worker(self) -> Iterator[Process]:
        """A process that works in the background; Ctrl-C ends it."""
        with Process("manage.py", "pubsub_worker", env=self.environment) as worker:
            worker.wait_for("Working for import_letters")
            yield worker
            assert worker.end(signal.SIGINT) == 0, worker.output
        assert "Traceback" not in worker.output, worker.output

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """Master and workers end without a word; afterwards there are new ones."""
        os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        assert "Traceback" not in self._process.output, self._process.output
        try:
            yield
        finally:
            await asyncio.to_thread(self.start)

    @property
    def workers(self) -> set[int]:
        """Process ids."""
        return children(self._process.pid)

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """All new connections go to this worker; the others stand still."""
        others = self.workers - {worker}
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    @asynccontextmanager
    async def people(self, *names: str) -> AsyncIterator[list[Browser]]:
        """Browsers in which these are logged in."""
        async with AsyncExitStack() as stack:
            browsers = [
                await stack.enter_async_context(Browser(self, name)) for name in names
            ]
            await asyncio.gather(*(browser.log_in() for browser in browsers))
            yield browsers

    def workers_of(self, sockets: list[Socket]) -> set[int]:
        """Process ids of the workers that serve these sockets."""
        owners = owners_of_clients(self.port, self.workers)
        return {owners[socket.get_extra_info("sockname")[1]] for socket in sockets}


class Browser:
    """One user's cookies, and what a page does with them."""

    def __init__(self, chat: Chat, name: str) -> None:
        self._chat = chat
        self.name = name
        self._http = aiohttp.ClientSession(
            chat.url, cookie_jar=aiohttp.CookieJar(unsafe=True)
        )

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()

    async def get(self, path: str) -> tuple[int, str]:
        """A page's status and text."""
        async with self._http.get(path) as response:
            return response.status, await response.text()

    async def submit(self, path: str, **fields: Any) -> tuple[int, str]:
        """Send a form; the status and the path it ended at."""
        [token] = {
            cookie.value for cookie in self._http.cookie_jar if cookie.key == "csrftoken"
        }
        form = aiohttp.FormData({"csrfmiddlewaretoken": token, **fields})
        async with self._http.post(path, data=form) as response:
            return response.status, response.url.path

    async def log_in(self) -> None:
        known = self._chat.cookies.get(self.name)
        if known is not None:
            self._http.cookie_jar.update_cookies(known, URL(self._chat.url))
            return
        await self.get("/login/")
        password = self._chat.passwords[self.name]
        ended = await self.submit("/login/", username=self.name, password=password)
        assert ended == (200, "/")
        self._chat.cookies[self.name] = {
            cookie.key: cookie.value for cookie in self._http.cookie_jar
        }

    async def begin(self, subject: str, other: str) -> str:
        """A new correspondence with somebody; its path."""
        _, page = await self.get("/correspondences/new/")
        found = re.search(rf'value="(\d+)"[^>]*>\s*{other}', page)
        assert found, page
        fields = {"subject": subject, "participants": found[1]}
        status, path = await self.submit("/correspondences/new/", **fields)
        assert status == 200
        assert re.fullmatch(r"/correspondences/\d+/", path), path
        return path

    async def send(self, correspondence: str, body: str) -> None:
        assert await self.submit(f"{correspondence}messages/", body=body) == (
            200,
            correspondence,
        )

    async def channel_of(self, subject: str) -> str:
        """A channel's name, as the page of subscriptions tells it."""
        _, page = await self.get("/subscriptions/")
        found = re.search(rf'data-channel="([^"]+)"[^<]*<span>{subject}', page)
        assert found, page
        return found[1]

    async def open(self, path: str, origin: str | None = None) -> Socket:
        return await self._http.ws_connect(
            path, headers={"Origin": origin or self._chat.url}
        )

    async def open_stream(self, path: str, *channels: str) -> aiohttp.ClientResponse:
        """Plain events of channels, as far as their head."""
        response = await self._http.get(
            path,
            params=[("channel", channel) for channel in channels],
            headers={"Origin": self._chat.url},
            timeout=aiohttp.ClientTimeout(total=None),
        )
        assert response.status == 200, await response.text()
        return response

    async def open_tabs(self, path: str) -> list[Socket]:
        """Sockets, at least eight and so many that every worker has one."""
        tabs: list[Socket] = []
        while len(tabs) < 64:
            tabs += await asyncio.gather(*(self.open(path) for _ in range(8)))
            if len(self._chat.workers_of(tabs)) == WORKERS:
                return tabs
        raise AssertionError("one worker took all sockets")


def site_environment(directory: Path, redis_url: str = "memory://") -> dict[str, str]:
    """What the example reads from the environment."""
    return {
        "DJANGO_SETTINGS_MODULE": "example.settings",
        "DEBUG": "1",
        "SECRET_KEY": secrets.token_hex(32),
        "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
        "REDIS_URL": redis_url,
    }


@pytest.fixture(scope="session")
def chat(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chat]:
    """Ada, Bob and Eve's site."""
    with Chat(tmp_path_factory.mktemp("chat"), redis_server.url) as chat:
        yield chat
