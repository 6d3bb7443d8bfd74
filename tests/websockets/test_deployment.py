"""One process serves all: gunicorn's stock worker, and the command for development."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from django.core.management import CommandError, call_command

from redis_pubsub.broker import open_blocking
from redis_pubsub.messages import Draft, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from tests.processes import ROOT, Process, free_port

pytestmark = pytest.mark.may_block(reason="starts and stops server processes")

WORKER = "aiohttp.worker.GunicornWebWorker"
UVLOOP = "aiohttp.worker.GunicornUVLoopWebWorker"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A migrated database for the servers of this module."""
    directory = tmp_path_factory.mktemp("data")
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_DATA": str(directory)}
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
    import os

    subprocess.run(
        migrate, cwd=ROOT, env={**os.environ, **env, "TEST_RUN": "deployment"}, check=True
    )
    return directory


@pytest.fixture
def env(redis_server, data):
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATA": str(data),
        "TEST_RUN": "deployment",
        "REDIS_URL": redis_server.url,
    }


@pytest.fixture
def publish(redis_server):
    """Publish as another process would."""
    broker = open_blocking(BrokerOptions(url=redis_server.url), Metrics())
    yield lambda channel, raw: broker.publish([Draft(channel, new_header(), raw)])
    broker.close()


def gunicorn(application: str, port: int, env: dict[str, str], *arguments: str) -> Process:
    return Process(
        *("-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"),
        *("--no-control-socket", "--worker-class", WORKER, *arguments),
        env=env,
    )


def client(port: int | str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{port}",
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=20),
    )


async def close_code(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(15):
        while not ws.closed:
            await ws.receive()
    return ws.close_code


@pytest.mark.parametrize(
    ("application", "arguments"),
    [
        ("deployment:application", []),
        ("deployment:application", ["--worker-class", UVLOOP]),
        ("deployment:application", ["--preload"]),
        ("tests.deployment_application:application", []),
        ("tests.deployment_application:application", ["--preload"]),
        ("tests.deployment_2016:application", []),
    ],
    ids=["factory", "uvloop", "preload", "application", "application preload", "2016"],
)
async def test_every_form_of_deployment_serves_sockets_and_pages(
    env, publish, application, arguments
):
    """P-15, P46, P49, B25: sockets and Django on one port, a handler and the home page
    both at `/`, a publish of another process; SIGTERM closes with 1001 and exits 0."""
    port = free_port()
    with gunicorn(application, port, env, *arguments) as server:
        server.wait_for_port(port)
        async with client(port) as http:
            echo = await http.ws_connect("/")
            await echo.send_str("hello")
            assert await echo.receive_str() == "hello"
            hear = await http.ws_connect("/hear/news")
            await hear.receive_str()
            publish("news", b'"from outside"')
            assert await hear.receive_json() == "from outside"
            if "2016" not in application:
                page = await http.get("/")
                assert (page.status, await page.text()) == (200, "the home page")
            login = await http.get("/admin/login/")
            assert login.status == 200 and "csrftoken" in login.cookies
            assert (await http.get("/no-such-page")).status == 404
            assert (await http.get("/hear/news")).status in (404, 426)

            server.send(signal.SIGTERM)
            assert await close_code(echo) == 1001
            assert await close_code(hear) == 1001
        assert server.wait() == 0, server.output
        assert "Traceback" not in server.output


async def test_a_workers_clients_are_told_when_to_come_back(env):
    """P-15: at SIGTERM, each another moment, and all within a fifth of a second for a
    hundred of them: 500 a second."""
    port = free_port()
    with gunicorn("deployment:application", port, env) as server:
        server.wait_for_port(port)
        async with client(port) as http:
            sockets = [await http.ws_connect("/") for _ in range(100)]
            server.send(signal.SIGTERM)
            async with asyncio.timeout(15):
                said = [(await ws.receive()).extra for ws in sockets]
        assert server.wait() == 0, server.output

    delays = [float(each.partition("; reconnect in ")[2][:-2] or 0) for each in said]
    assert set(delays) >= {0, 0.1} and max(delays) <= 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody waits")
async def test_old_workers_serve_until_new_ones_do(env):
    """SIGHUP: the new worker loads for two seconds, and meanwhile the old one answers new
    connections. None has to wait; and then it ends."""
    port = free_port()
    slow = {**env, "TEST_BOOT_S": "2"}
    with gunicorn("tests.deployment_slow:application", port, slow) as server:
        server.wait_for_port(port)
        async with client(port) as http:
            old = await _worker(http)
            server.send(signal.SIGHUP)
            server.wait_for("Booting worker", times=2)
            answered = 0
            while (worker := await _worker(http)) == old:
                answered += 1
                await asyncio.sleep(0.05)

            assert answered > 5
            server.wait_for(f"Worker exiting (pid: {old})")
            assert await _worker(http) == worker
        assert server.end() == 0, server.output


async def _worker(http):
    """Who answers a request on a connection of its own."""
    async with http.get("/no-such-page", headers={"Connection": "close"}) as response:
        return response.headers["X-Worker"]


async def test_a_publish_reaches_the_sockets_of_every_worker(env, publish):
    """P-15: two workers, one message, everybody hears it."""
    port = free_port()
    with gunicorn("deployment:application", port, env, "--workers", "2") as server:
        server.wait_for_port(port)
        async with client(port) as http:
            sockets, workers = [], set()
            async with asyncio.timeout(30):
                while len(workers) < 2:
                    # Many at once: one by one, the kernel may wake one worker always.
                    some = await asyncio.gather(
                        *(http.ws_connect("/hear/all") for _ in range(20))
                    )
                    workers |= {await ws.receive_str() for ws in some}
                    sockets += some
            publish("all", b"1")
            assert [await ws.receive_json() for ws in sockets] == [1] * len(sockets)
            for ws in sockets:
                await ws.close()
        assert server.end() == 0, server.output


async def test_max_requests_replaces_the_worker_cleanly(env):
    """P-15: the worker that served enough says 1001 and goes; the next one serves."""
    port = free_port()
    with gunicorn("deployment:application", port, env, "--max-requests", "3") as server:
        server.wait_for_port(port)
        async with client(port) as http:
            ws = await http.ws_connect("/hear/x")
            first = await ws.receive_str()
            for _ in range(4):
                await http.get("/")
            assert await close_code(ws) == 1001
            server.wait_for("Booting worker", times=2)
            again = await http.ws_connect("/hear/x")
            assert await again.receive_str() != first
            await again.close()
        assert server.end() == 0, server.output
        assert "Traceback" not in server.output


def test_a_broken_handler_module_stops_the_start(env, tmp_path):
    """P-9: gunicorn does not come up, and its output names the module."""
    (tmp_path / "broken_app").mkdir()
    (tmp_path / "broken_app" / "__init__.py").write_text("")
    (tmp_path / "broken_app" / "websockets.py").write_text("handlerconf = ['missing']")
    (tmp_path / "broken_settings.py").write_text(
        "from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'broken_app']\n"
    )
    env |= {"DJANGO_SETTINGS_MODULE": "broken_settings", "PYTHONPATH": str(tmp_path)}

    with gunicorn("deployment:application", free_port(), env) as server:
        assert server.wait() != 0
        assert "broken_app.websockets" in server.output and "'missing'" in server.output


@pytest.mark.parametrize("command", ["pubsub_serve", "async_runserver"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_and_ends_cleanly(env, publish, command, number):
    """P-14, P47: one URL line, sockets, pages; 1001 and exit 0 on Ctrl-C and SIGTERM."""
    with Process(
        *("-m", "django", command, "--port", "0", "--host", "127.0.0.1"), env=env
    ) as server:
        server.wait_for("Server running on http://127.0.0.1:")
        port = server.output.rpartition("127.0.0.1:")[2].split()[0]
        async with client(port) as http:
            hear = await http.ws_connect("/hear/news")
            await hear.receive_str()
            publish("news", b"1")
            assert await hear.receive_json() == 1
            assert await (await http.get("/")).text() == "the home page"
            server.send(number)
            assert await close_code(hear) == 1001
        assert server.wait() == 0, server.output
        assert "Traceback" not in server.output and "System check" in server.output


async def test_the_command_reloads_and_closes_sockets_first(env, tmp_path):
    """P-14, C-9: a touched file gives a new process; its sockets got 1001, static files
    are served, and Ctrl-C ends parent and child with 0."""
    module = tmp_path / "touched_settings.py"
    module.write_text("from tests.settings import *\n")
    env |= {
        "DJANGO_SETTINGS_MODULE": "touched_settings",
        "PYTHONPATH": str(tmp_path),
        "TEST_DEBUG": "1",
    }
    port = free_port()
    with Process(
        *("-m", "django", "pubsub_serve", "--host", "127.0.0.1", "--port", str(port)),
        env=env,
    ) as server:
        server.wait_for("Server running on")
        async with client(port) as http:
            assert (await http.get("/static/admin/css/base.css")).status == 200
            ws = await http.ws_connect("/hear/x")
            first = await ws.receive_str()

            # The reloader compares whole seconds: two of them differ for certain.
            await asyncio.sleep(1.1)
            module.write_text("from tests.settings import *\nTOUCHED = True\n")
            assert await close_code(ws) == 1001
            server.wait_for("Server running on", times=2)
            again = await http.ws_connect("/hear/x")
            assert await again.receive_str() != first
            server.send(signal.SIGINT)
            assert await close_code(again) == 1001
        assert server.wait() == 0, server.output


@pytest.mark.parametrize("module", ["models", "websockets"])
async def test_the_command_waits_until_what_a_change_has_broken_is_mended(
    env, tmp_path, module
):
    """As ``runserver`` does: nobody starts it anew after each typing error. And it takes
    an address as that does."""
    app = tmp_path / "shaky_app"
    app.mkdir()
    for name in ("__init__", "models", "websockets"):
        (app / f"{name}.py").write_text("")
    (tmp_path / "shaky_settings.py").write_text(
        "from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'shaky_app']\n"
    )
    env |= {
        "DJANGO_SETTINGS_MODULE": "shaky_settings",
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TEST_DEBUG": "1",
    }
    address = f"127.0.0.1:{free_port()}"
    with Process("-m", "django", "pubsub_serve", address, env=env) as server:
        server.wait_for(f"Server running on http://{address}")
        for text, outcome in (("def broken(:", "SyntaxError"), ("", "Server running on")):
            seen = server.output.count(outcome)
            # The reloader compares whole seconds: two of them differ for certain.
            await asyncio.sleep(1.1)
            (app / f"{module}.py").write_text(text)
            server.wait_for(outcome, times=seen + 1)
        assert server.end(signal.SIGINT) == 0, server.output


@pytest.mark.parametrize(
    "arguments", [["x"], [":1"], ["1", "--port", "2"], ["é:1", "--unix", "a"]]
)
def test_an_address_that_is_none_is_told(arguments):
    """Or one that is said twice."""
    with pytest.raises(CommandError, match=r"say it once|neither a port"):
        call_command("pubsub_serve", *arguments)


def test_memory_is_refused_for_several_workers(env):
    """C-10: the error says what to set."""
    env |= {"REDIS_URL": "memory://"}
    with Process("-m", "django", "pubsub_serve", "--workers", "2", env=env) as server:
        assert server.wait() == 1
        assert "memory://" in server.output and 'REDIS_PUBSUB["url"]' in server.output


async def test_the_command_starts_gunicorn_for_several_workers(env):
    """`--workers 2` is production's server, and ends as cleanly."""
    port = free_port()
    with Process(
        *("-m", "django", "pubsub_serve", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "2"),
        env=env,
    ) as server:
        server.wait_for("Booting worker", times=2)
        async with client(port) as http:
            ws = await http.ws_connect("/")
            await ws.send_str("x")
            assert await ws.receive_str() == "x"
            await ws.close()
        assert server.end() == 0, server.output


async def test_the_command_listens_on_a_unix_socket_and_logs_requests(env, tmp_path):
    """`--unix PATH`, behind nginx; `--access-log` writes a line for each request."""
    path = str(tmp_path / "site.sock")
    with Process(
        *("-m", "django", "pubsub_serve", "--unix", path, "--access-log"), env=env
    ) as server:
        server.wait_for("Server running on unix:")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
            assert (await http.get("http://localhost/")).status == 200
        server.wait_for('"GET / HTTP/1.1" 200')
        assert server.end() == 0


@pytest.mark.parametrize("kind", ["gunicorn", "development"])
async def test_a_slow_page_does_not_delay_sockets(env, kind):
    """T-8, P48: one process has pages, sockets and, while developing, static files. Django
    runs in threads of its own; a page that hangs leaves sockets prompt."""
    port = free_port()
    serve = ("-m", "django", "pubsub_serve", "--host", "127.0.0.1", "--port", str(port))
    process = (
        gunicorn("deployment:application", port, env)
        if kind == "gunicorn"
        else Process(*serve, "--noreload", env=env | {"TEST_DEBUG": "1"})
    )
    with process as server:
        server.wait_for_port(port)
        async with client(port) as http:
            slow = asyncio.create_task(http.get("/slow"))
            ws = await http.ws_connect("/")
            for number in range(50):
                await ws.send_str(str(number))
                assert await ws.receive_str() == str(number)
            if kind == "development":
                assert (await http.get("/static/admin/css/base.css")).status == 200
            assert not slow.done()
            await ws.close()
            assert (await slow).status == 200
        assert server.end() == 0


def test_a_django_handler_and_the_sockets_share_a_port_only_once(env):
    """A port that is taken is said so, with a status that is not 0."""
    port = free_port()
    arguments = ("-m", "django", "pubsub_serve", "--host", "127.0.0.1", "--port", str(port))
    with Process(*arguments, env=env) as first:
        first.wait_for("Server running on")
        with Process(*arguments, env=env) as second:
            assert second.wait() != 0
            assert "in use; choose another with --port" in second.output
            assert "Traceback" not in second.output
        assert first.end() == 0
