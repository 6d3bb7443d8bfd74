"""Event sockets in real processes: workers of gunicorn, a command that emits, the server
command without pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.processes import ROOT, Process, free_port

pytestmark = pytest.mark.may_block(reason="starts and stops server processes")

SOCKETS = 500
APPLICATION = "redis_pubsub.contrib.websockets.deploy_sockets:application"


@pytest.fixture
def env(redis_server, prefix, tmp_path):
    return {
        "DJANGO_SETTINGS_MODULE": "tests.events.site.settings",
        "TEST_DATA": str(tmp_path),
        "TEST_RUN": "events",
        "REDIS_URL": redis_server.url,
        "EVENTS_SETTINGS": json.dumps({"prefix": prefix}),
        "EVENTS_LOG": str(tmp_path / "events.log"),
    }


def workers(port: int, env: dict[str, str], count: int = 2) -> Process:
    return Process(
        *("-m", "gunicorn", APPLICATION, "--bind", f"127.0.0.1:{port}"),
        *("--no-control-socket", "--workers", str(count)),
        *("--worker-class", "aiohttp.worker.GunicornWebWorker"),
        env=env,
    )


def client(port: int | str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{port}",
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=60),
    )


async def manage(env: dict[str, str], *arguments: str) -> None:
    """Run a command of the site in a process of its own."""
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        check=True,
        timeout=60,
    )


async def join(http: aiohttp.ClientSession, path: str = "/room/a/"):
    ws = await http.ws_connect(path)
    hello = await ws.receive_json(timeout=30)
    assert hello["event"] == "hello"
    return ws, hello["data"]


async def test_a_command_emits_to_every_socket_of_two_workers(env):
    """T-3, T-7: 500 sockets, all get it once; one connection alone is found as well."""
    port = free_port()
    with workers(port, env) as server:
        server.wait_for_port(port)
        async with client(port) as http:
            joined = []
            for begin in range(0, SOCKETS, 50):
                rooms = [f"/room/{number % 7}/" for number in range(begin, begin + 50)]
                joined += await asyncio.gather(*(join(http, path) for path in rooms))
            pids = Counter(hello["pid"] for _, hello in joined)
            assert len(pids) == 2, pids

            await manage(env, "emit_event", "one", "--client", joined[3][1]["id"])
            await manage(env, "emit_event", "all")

            heard = {}
            for number, (ws, _) in enumerate(joined):
                first = await ws.receive_json(timeout=30)
                heard[number] = [first["data"]]
                if first["data"] == "one":
                    heard[number].append((await ws.receive_json(timeout=30))["data"])
            assert heard.pop(3) == ["one", "all"]
            assert list(heard.values()) == [["all"]] * (SOCKETS - 1)
            await asyncio.gather(*(ws.close() for ws, _ in joined))
        assert server.end() == 0, server.output


async def test_hooks_run_once_however_sockets_end(env, until):
    """M-1: a clean close, a client that is killed, and SIGTERM of the server."""
    script = (
        "import asyncio, aiohttp, sys\n"
        "async def main():\n"
        "    async with aiohttp.ClientSession() as http:\n"
        "        ws = await http.ws_connect(sys.argv[1])\n"
        "        print((await ws.receive_json())['data']['id'], flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    log = Path(env["EVENTS_LOG"])
    port = free_port()
    with workers(port, env) as server:
        server.wait_for_port(port)
        async with client(port) as http:
            clean, clean_hello = await join(http)
            stays, stays_hello = await join(http)
            url = f"http://127.0.0.1:{port}/room/a/"
            with Process("-c", script, url, env=env) as killed:
                killed.wait_for("\n")
                killed_id = killed.output.strip()
                killed.send(signal.SIGKILL)
                await clean.close(code=4000)
                await until(lambda: log.read_text().count("close") == 2, 20)
            server.send(signal.SIGTERM)
            message = await stays.receive(timeout=20)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            await stays.close()
        assert server.wait() == 0, server.output

    assert Counter(log.read_text().splitlines()) == Counter(
        [
            *(f"open {id} 0" for id in (clean_hello["id"], stays_hello["id"], killed_id)),
            f"close {clean_hello['id']} 4000",
            f"close {killed_id} 1006",
            f"close {stays_hello['id']} 1001",
        ]
    )


def serving(*arguments: str, env: dict[str, str]) -> Process:
    return Process("-m", "django", "pubsub_serve", "--noreload", *arguments, env=env)


async def test_the_command_serves_sockets_alone(env):
    """M-7: with `--no-django` sockets answer and pages do not; so with several workers."""
    with serving("--no-django", "--host", "127.0.0.1", "--port", "0", env=env) as server:
        server.wait_for("Server running on http://127.0.0.1:")
        port = re.search(r"127\.0\.0\.1:(\d+)", server.output)[1]
        async with client(port) as http:
            ws, _ = await join(http)
            await ws.send_json({"event": "say", "data": 1})
            assert await ws.receive_json(timeout=10) == {"event": "said", "data": 1}
            await ws.close()
            assert (await http.get("/admin/login/")).status == 404
            assert (await http.get("/")).status == 426  # a handler's path
        assert server.end() == 0, server.output

    port = free_port()
    arguments = ("--workers", "2", "--host", "127.0.0.1", "--port", str(port))
    with serving("--no-django", *arguments, env=env) as server:
        server.wait_for("Booting worker", times=2)
        async with client(port) as http:
            ws, _ = await join(http)
            await ws.close()
            assert (await http.get("/admin/login/")).status == 404
        assert server.end() == 0, server.output


@pytest.mark.parametrize("source", ["command line", "settings"])
def test_the_port_is_the_command_lines_else_the_settings(env, source):
    """T-9: `--host` and `--port` go before `REDIS_PUBSUB["host"]` and `["port"]`."""
    of_settings, of_command = free_port(), free_port()
    values = {"host": "127.0.0.1", "port": of_settings}
    env |= {"EVENTS_SETTINGS": json.dumps(values)}
    arguments = ["--host", "localhost", "--port", str(of_command)]
    expected = {
        "command line": (arguments, f"http://localhost:{of_command}"),
        "settings": ([], f"http://127.0.0.1:{of_settings}"),
    }[source]

    with serving("--no-django", *expected[0], env=env) as server:
        server.wait_for(f"Server running on {expected[1]}\n")
        assert server.end() == 0, server.output


def test_without_either_it_is_localhost_8000(settings):
    """T-9: what the command reads where nobody says anything."""
    from redis_pubsub.conf import get_config

    settings.REDIS_PUBSUB = {}
    assert (get_config().host, get_config().port) == ("localhost", 8000)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"port": "many"}, "port"), ({"no_such_key": 1}, "no_such_key")],
)
@pytest.mark.parametrize("count", ["1", "2"])
def test_wrong_settings_end_the_command_with_another_status(env, values, said, count):
    """T-9: the seed printed a message and ended with 0."""
    env |= {"EVENTS_SETTINGS": json.dumps(values)}

    with serving("--no-django", "--workers", count, env=env) as server:
        assert server.wait() != 0, server.output
        assert said in server.output
