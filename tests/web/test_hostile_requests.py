"""Raw requests to a real gunicorn worker: each is one request, or none."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from tests.processes import Process, free_port

from . import hostile

pytestmark = pytest.mark.may_block(reason="starts server processes, and asks them itself")

WORKER = "aiohttp.worker.GunicornWebWorker"
TIMEOUT_S = 15.0
_answer = re.compile(rb"HTTP/\d\.\d (\d{3}) ")


class Asked:
    """A server, and what it answers to bytes."""

    def __init__(self, process, port):
        self.process = process
        self.host = f"127.0.0.1:{port}".encode()
        self._port = port

    def fill(self, data):
        return data.replace(b"{host}", self.host)

    def head(self, data):
        """Send bytes; the head of the answer."""
        with socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S) as client:
            client.sendall(self.fill(data))
            return client.makefile("rb").readline()

    def ask(self, data):
        """Send bytes; all that comes until the server, and nobody else, ends it."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S) as client:
            client.sendall(self.fill(data))
            try:
                while part := client.recv(65_536):
                    answer += part
            except ConnectionResetError:
                # It had closed while there was more to read.
                pass
        return answer


@pytest.fixture(scope="module", params=["", "1"], ids=["python", "python -O"])
def server(request, tmp_path_factory):
    """``deployment:application`` in a process; once as ``python -O`` runs it."""
    port = free_port()
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.limited_settings",
        "TEST_DATA": str(tmp_path_factory.mktemp("data")),
        "TEST_LIMITS": '{"address_connects_burst": 1000}',
        "PYTHONOPTIMIZE": request.param,
    }
    command = ("-m", "gunicorn", "deployment:application", "--no-control-socket")
    options = ("--bind", f"127.0.0.1:{port}", "--worker-class", WORKER)
    with Process(*command, *options, "--access-logfile", "-", env=env) as process:
        process.wait_for_port(port)
        yield Asked(process, port)
        assert process.end(signal.SIGTERM) == 0, process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize("name", hostile.REFUSED)
def test_what_could_be_two_things_is_neither(server, name):
    """One answer, a refusal that quotes nothing, and the end of the connection: what
    stands behind it is nobody's request."""
    answer = server.ask(hostile.REFUSED[name] + hostile.NEXT)

    statuses = [int(each) for each in _answer.findall(answer)]
    assert len(statuses) == 1, answer
    assert statuses[0] in (400, 403, 405, 426), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"python" not in answer.lower() and b"aiohttp" not in answer.lower()
    assert len(body) < 60 and b"'" not in body, body
    assert b"\r\nServer: django-redis-pubsub" in head


@pytest.mark.parametrize("name", hostile.TAKEN)
def test_what_is_whole_is_answered_and_so_is_what_follows(server, name):
    """The refusals are not of everything."""
    request, status = hostile.TAKEN[name]

    last = hostile.NEXT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = server.ask(request + last)

    assert [int(each) for each in _answer.findall(answer)] == [status, 404], answer


def test_a_handshake_that_is_one_is_answered(server):
    """And a cookie that no session can have changes nothing."""
    for line in (b"", b"Cookie: sessionid=\xff\xfe\xff\xfeaaaa\r\n", b"Cookie: a=\xff\r\n"):
        answer = server.head(hostile.upgrade(line, b"Origin: http://{host}\r\n"))

        assert _answer.findall(answer) == [b"101"]


def test_what_is_logged_of_them_is_one_line_each(server):
    """Without control characters, and without a traceback (see the fixture)."""
    begin = len(server.process.output)
    server.ask(hostile.get(b"A: \x1b[31m\r\n"))
    server.ask(hostile.get(target=b"/%1b%0a%9b31m", version=b"HTTP/1.0"))
    server.ask(hostile.get(b"User-Agent: \xc2\x9b31m\xff\r\n", version=b"HTTP/1.0"))
    server.ask(b"GET /last HTTP/1.0\r\nHost: {host}\r\n\r\n")
    server.process.wait_for("/last")

    said = server.process.output[begin:].replace("\n", "")
    assert said.isprintable(), repr(said)
