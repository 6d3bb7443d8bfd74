"""What strangers can do to a server process, on real gunicorn workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys

import aiohttp
import pytest

from tests.processes import Process, free_port

pytestmark = pytest.mark.may_block(reason="starts and stops server processes")

WORKERS = {
    "asyncio": "aiohttp.worker.GunicornWebWorker",
    "uvloop": "aiohttp.worker.GunicornUVLoopWebWorker",
}


@pytest.fixture
def serve_process(redis_server, tmp_path):
    """Serve: ``with serve_process(port, files=256, limit=…) as server``."""

    @contextlib.contextmanager
    def start(port, *, files=1_024, worker="asyncio", **limits):
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.limited_settings",
            "TEST_DATA": str(tmp_path),
            "TEST_RUN": "exhaustion",
            "TEST_LIMITS": json.dumps(limits),
            "REDIS_URL": redis_server.url,
        }
        command = [
            *(sys.executable, "-m", "gunicorn", "deployment:application"),
            *("--bind", f"127.0.0.1:{port}", "--worker-class", WORKERS[worker]),
            "--no-control-socket",
        ]
        limited = f'ulimit -n {files} && exec "$@"'
        with Process("-c", limited, "sh", *command, env=env, python="/bin/sh") as server:
            server.wait_for_port(port)
            yield server
            assert server.end(signal.SIGTERM) == 0, server.output

    return start


async def is_served(ws):
    await ws.send_str("still there?")
    return await ws.receive_str(timeout=10) == "still there?"


async def open_lines(port, count, data=b""):
    """Connections that say something, or nothing, and wait."""

    async def line():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        return reader, writer

    found = await asyncio.gather(*(line() for _ in range(count)), return_exceptions=True)
    return [each for each in found if not isinstance(each, BaseException)]


async def ended(lines, timeout_s=15):
    """Until the other side has ended all of them."""

    async def end(reader):
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)

    async with asyncio.timeout(timeout_s):
        await asyncio.gather(*(end(reader) for reader, _ in lines))


@pytest.mark.parametrize("worker", WORKERS)
async def test_four_hundred_clients_of_a_process_with_256_files(serve_process, worker):
    """Those beyond what it can have open are refused with 503; nobody inside notices, and
    when they leave others come in."""
    port = free_port()
    with serve_process(port, files=256, worker=worker) as server:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)
        ) as http:
            healthy = await http.ws_connect("/")
            found = []
            for _ in range(8):
                # No more at once than the kernel's queue takes.
                found += await asyncio.gather(
                    *(http.ws_connect("/") for _ in range(50)), return_exceptions=True
                )
            inside = [
                each for each in found if isinstance(each, aiohttp.ClientWebSocketResponse)
            ]
            refused = {
                each.status
                for each in found
                if isinstance(each, aiohttp.WSServerHandshakeError)
            }

            assert 100 < len(inside) <= 256 - 64
            assert refused == {503}
            assert await is_served(healthy) and await is_served(inside[-1])

            await asyncio.gather(*(each.close() for each in inside[:50]))
            async with asyncio.timeout(20):
                while True:
                    with contextlib.suppress(aiohttp.WSServerHandshakeError):
                        late = await http.ws_connect("/")
                        break
                    await asyncio.sleep(0.1)
            assert await is_served(late)
            await asyncio.gather(*(each.close() for each in [*inside, late, healthy]))
        assert "serves 192 connections" in server.output


@pytest.mark.parametrize("worker", WORKERS)
async def test_files_that_run_out_neither_end_nor_spin_a_process(serve_process, worker):
    """Connections that never say what they want take all there are: who is inside is
    served on, and the deadline for the first request lets others in again."""
    port = free_port()
    with serve_process(port, files=128, worker=worker, first_request_s=2) as server:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            healthy = await http.ws_connect("/")
            lines = await open_lines(port, 200)

            assert await is_served(healthy)
            await ended(lines, timeout_s=30)
            async with asyncio.timeout(20):
                late = await http.ws_connect("/")

            assert await is_served(healthy) and await is_served(late)
            await healthy.close()
            await late.close()
        # asyncio says so once a second at most.
        assert server.output.count("Too many open files") < 60


async def test_half_a_header_is_waited_for_ten_seconds_at_most(serve_process):
    """3,000 of them would have the process's files for over a minute each."""
    port = free_port()
    with serve_process(port, first_request_s=1) as server:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            healthy = await http.ws_connect("/")
            lines = await open_lines(port, 300, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert len(lines) == 300
            assert await is_served(healthy)

            await ended(lines)

            metrics = await (await http.get("/metrics")).text()
            assert "first_requests_late_total 300" in metrics, metrics
            assert await is_served(healthy)
            await healthy.close()
        assert "Traceback" not in server.output


async def test_requests_that_are_no_http_are_a_few_lines_in_the_log(serve_process):
    """A port scan does not fill the disk."""
    port = free_port()
    with serve_process(port) as server:
        for _ in range(10):
            lines = await open_lines(port, 50, b"GET /\x00 HTTP/9.9\r\n\r\n")
            await ended(lines)

        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            healthy = await http.ws_connect("/")
            assert await is_served(healthy)
            await healthy.close()
    assert "Traceback" not in server.output
    assert server.output.count("Error handling request") <= 20
    assert "more like it are not logged" in server.output
