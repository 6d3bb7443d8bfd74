"""The library for browsers, run by node's own test runner against real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.services import require

pytestmark = pytest.mark.may_block(reason="runs node and servers in processes of their own")

HERE = Path(__file__).parent
TRANSPORTS = ("websocket", "websocket_protobuf", "http_stream", "sse")


@pytest.fixture(scope="module")
def node() -> str:
    """Node's path, with the packages of ``package-lock.json`` installed beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    require("node with npm", bool(node and npm))
    assert node is not None and npm is not None
    installed = HERE / "node_modules" / ".package-lock.json"
    wanted = HERE / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        done = subprocess.run(
            [npm, "ci", "--loglevel=error"], cwd=HERE, capture_output=True, text=True
        )
        require(f"what npm installs ({done.stderr.strip()[-500:]})", not done.returncode)
        installed.touch()
    return node


@pytest.fixture
def run(node, backstage, server_url):
    """Run files of tests side by side; fails with node's report."""

    def run(*subjects: str, servers: Sequence[str] = (), **env: str) -> None:
        urls = {f"{name.upper()}_URL": server_url(name) for name in servers}
        files = [f"{subject}.test.mjs" for subject in subjects]
        together = f"--test-concurrency={len(files)}"
        done = subprocess.run(
            [node, "--test", together, "--test-reporter=spec", *files],
            cwd=HERE,
            env={
                **os.environ,
                "BACKSTAGE_URL": backstage.url,
                "SERVER_URL": server_url("main"),
                **urls,
                **env,
            },
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        print(done.stdout)
        assert done.returncode == 0, done.stderr

    return run


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_library_works_over_every_transport(run, transport):
    """Connecting, hearing and calling work as the library's documentation says."""
    run("connections", "channels", "calls", TRANSPORT=transport)


def test_connections_outlive_their_pings(run):
    """Over every transport the library is pinged, and answers in time."""
    run("pings", servers=["brisk"])


def test_posts_may_reach_any_process(run):
    """The way up of streams works whichever worker or server a post reaches."""
    run("emulation", servers=["other", "pair"])


def test_clients_survive_dying_servers_and_broken_connections(run):
    """A kill, a restart and lost Redis connections cost no message and repeat none."""
    run("trouble", servers=["other"])
