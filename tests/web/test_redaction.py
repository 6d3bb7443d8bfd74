"""Secrets in URLs do not reach a log, in whatever form the application is served."""

from __future__ import annotations

import asyncio
import logging
import signal

import pytest

from redis_pubsub.web.redaction import RedactingFilter, redacted
from tests.processes import Process, free_port

SECRET = "SECRET-of-somebody"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /x?token=S HTTP/1.1", "GET /x?token=… HTTP/1.1"),
        ("/x?a=1&ticket=S&b=2", "/x?a=1&ticket=…&b=2"),
        ("/x?%74oken=S'S&cf%5Fconnect=S", "/x?token=…&cf_connect=…"),
        ("/x?tokens=3&my_token=4", "/x?tokens=3&my_token=4"),
        ("no address", "no address"),
    ],
)
def test_the_value_of_a_secret_parameter_is_left_out(text, expected):
    """However its name is spelt; other parameters stay."""
    assert redacted(text) == expected


def record(message, *arguments, **extra):
    made = logging.getLogger("any").makeRecord(
        "any", logging.ERROR, "file", 1, message, arguments, None, extra=extra
    )
    assert RedactingFilter().filter(made)
    return made


def test_a_record_is_cleaned_wherever_it_has_an_address():
    """In its text, its arguments of any kind, and aiohttp's attributes."""
    address = f"/x?token={SECRET}"
    records = [
        record(f"GET {address}"),
        record("%s %d", address, 1),
        record("%r", address.encode()),
        record("%(url)s", {"url": address}),
        record("%s", ValueError(f"cannot read {address}")),
        record("x", first_request_line=address, request_header={"Referer": address}),
    ]

    for each in records:
        text = each.getMessage() + str(vars(each))
        assert SECRET not in text and "token=…" in text


def test_a_traceback_is_cleaned():
    """Parsers quote the line that they could not read."""
    try:
        raise ValueError(f"bad line: GET /x?ticket={SECRET} HTTP/9")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    made = logging.LogRecord("any", logging.ERROR, "file", 1, "failed", (), info)

    RedactingFilter().filter(made)

    text = logging.Formatter().format(made)
    assert "ticket=…" in text and SECRET not in text


REQUESTS = [
    f"GET /nothing?token={SECRET} HTTP/1.1",
    f"GET /nothing?a=1&ticket={SECRET} HTTP/1.1",
    f"GET /connection/sse?cf_connect=%7B%22token%22%3A%22{SECRET}%22%7D HTTP/1.1",
    f"GET /connection/websocket?token={SECRET} HTTP/1.1",
    f"GET /nothing?token={SECRET} HTTP/9.9",
    f"GET /nothing?token={SECRET} with spaces HTTP/1.1",
    f"G(T /nothing?token={SECRET} HTTP/1.1",
]


@pytest.mark.may_block(reason="starts and stops server processes")
@pytest.mark.parametrize(
    "application", ["deployment:application", "tests.deployment_application:application"]
)
async def test_no_log_of_gunicorn_shows_a_secret(application, redis_server, tmp_path):
    """With the runner factory, and with the plain `Application` form, whose access log is
    aiohttp's own: requests that are answered, and those that nobody can read."""
    port = free_port()
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATA": str(tmp_path),
        "REDIS_URL": redis_server.url,
    }
    command = ["-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "aiohttp.worker.GunicornWebWorker"]
    command += ["--no-control-socket", "--access-logfile", "-", "--log-level", "debug"]
    with Process(*command, env=env) as server:
        server.wait_for_port(port)
        for line in REQUESTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"Host: localhost\r\nReferer: http://localhost/?token={SECRET}"
            writer.write(f"{line}\r\n{head}\r\nConnection: close\r\n\r\n".encode())
            assert await asyncio.wait_for(reader.read(), 20)
            writer.close()
        await asyncio.to_thread(server.wait_for, "token=…", 5)
        assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0

    assert SECRET not in server.output and "ticket=…" in server.output
