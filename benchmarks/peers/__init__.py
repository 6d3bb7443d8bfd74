"""Who is compared: each server as its own documentation would have it run.

A peer says how its server and its publisher are started, how its clients speak, which
settings it has, and whether it is here at all; `environment` installs those that are not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from ..generator import Dialect, Step
from .environment import NODE, PYTHON

ROOT = Path(__file__).resolve().parent.parent.parent
SERVERS = ROOT / "benchmarks" / "peers" / "servers"
_READY = Step(wait='"ready"')


@dataclass(frozen=True)
class Start:
    """What a server is started with."""

    port: int
    workers: int = 1
    directory: str = ""


@dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        name: On the command line and in results.
        title: In tables.
        settings: What was set, for readers.
        command: Starts the server.
        publisher: Which publisher of `servers.publish`.
        dialect: How a client that listens to these channels, perhaps with a token, speaks.
        python: The interpreter of the publisher.
        packages: Distributions whose versions count, of ``python``.
        other_versions: Versions of what is no Python distribution.
        needs: A file without which the peer is missing.
        is_ours: Whether it is this package.
        has_redis: Whether messages go through Redis.
        can_multiply: Whether it is run with several workers.
        can_authenticate: Whether the connect storm with tokens has been written for it.
    """

    name: str
    title: str
    settings: str
    command: Callable[[Start], list[str]]
    publisher: str
    dialect: Callable[[list[str], str], Dialect]
    python: Path = PYTHON
    packages: tuple[str, ...] = ()
    other_versions: Callable[[], dict[str, str]] = dict
    needs: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False
    has_redis: bool = True
    can_multiply: bool = False
    can_authenticate: bool = False

    def missing(self) -> str:
        """Why it cannot be measured; empty if it can."""
        for path in (self.python, self.needs):
            if path is not None and not path.exists():
                return f"{path.name} is not installed"
        return ""

    def versions(self) -> dict[str, str]:
        """Of everything that is measured with it."""
        found = self.other_versions()
        if not self.packages:
            return found
        if self.python == Path(sys.executable):
            return found | {name: installed_version(name) for name in self.packages}
        code = (
            "import sys, json; from importlib.metadata import version; "
            "print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
        )
        told = subprocess.run(
            [str(self.python), "-c", code, *self.packages], capture_output=True, check=True
        )
        found |= json.loads(told.stdout)
        return found


# -- how clients speak ------------------------------------------------------------------


def by_url(path: str) -> Callable[[list[str], str], Dialect]:
    """Channels and token in the query, ``"ready"`` in answer."""

    def dialect(channels: list[str], token: str) -> Dialect:
        query = f"?channels={','.join(channels)}" + (f"&token={token}" if token else "")
        return Dialect(path + query, (_READY,))

    return dialect


def live(channels: list[str], token: str) -> Dialect:
    """The live endpoint: a connect command and subscriptions, in one frame."""
    said: list[dict[str, Any]] = [{"connect": {"token": token} if token else {}}]
    said += [{"subscribe": {"channel": channel}} for channel in channels]
    lines = [json.dumps({"id": number, **each}) for number, each in enumerate(said, 1)]
    steps = (Step("\n".join(lines), '"id":', len(said)),)
    return Dialect("/connection/websocket", steps, ping=("{}", "{}"))


def socketio(channels: list[str], token: str) -> Dialect:
    """Engine.IO 4 without polling, and Socket.IO's connect packet."""
    path = f"/socket.io/?EIO=4&transport=websocket&channels={','.join(channels)}"
    steps = (Step(wait='"sid"'), Step("40", '"ready"'))
    return Dialect(path, steps, ping=("2", "3"))


def nats(channels: list[str], token: str) -> Dialect:
    """NATS' own protocol in frames."""
    wishes = "".join(f"SUB {name} {number}\r\n" for number, name in enumerate(channels, 1))
    connect = 'CONNECT {"verbose":false}\r\n' + wishes + "PING\r\n"
    steps = (Step(wait="INFO"), Step(connect, "PONG"))
    return Dialect("/", steps, ping=("PING\r\n", "PONG\r\n"), is_stream=True)


# -- how servers are started ------------------------------------------------------------


def _gunicorn(worker: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", "benchmarks.site.deployment:application"),
            *("--bind", f"127.0.0.1:{start.port}", "--workers", str(start.workers)),
            *("--worker-class", worker, "--backlog", "4096", "--log-level", "warning"),
        ]

    return command


def _uvicorn(start: Start) -> list[str]:
    workers = ["--workers", str(start.workers)] if start.workers > 1 else []
    return [
        *(str(PYTHON), "-m", "uvicorn"),
        "benchmarks.peers.servers.channels_site:application",
        *("--host", "127.0.0.1", "--port", str(start.port), "--lifespan", "off"),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
        *("--ws-per-message-deflate", "false", "--backlog", "4096"),
        *("--log-level", "warning", "--no-access-log", *workers),
    ]


def _daphne(start: Start) -> list[str]:
    endpoint = f"tcp:port={start.port}:interface=127.0.0.1:backlog=4096"
    return [
        *(str(PYTHON), "-m", "daphne", "-v", "0", "-e", endpoint),
        *("--proxy-headers", "--websocket_timeout", "-1"),
        "benchmarks.peers.servers.channels_site:application",
    ]


def _script(name: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        return [str(PYTHON), str(SERVERS / name), str(start.port)]

    return command


def _node(start: Start) -> list[str]:
    node = shutil.which("node") or "node"
    return [node, str(SERVERS / "ws_server.js"), str(start.port), str(start.workers)]


NATS_SERVER = Path(shutil.which("nats-server") or "/usr/sbin/nats-server")


def _nats(start: Start) -> list[str]:
    configuration = Path(start.directory) / "nats.conf"
    configuration.write_text(
        f'listen: "127.0.0.1:{start.port + 1}"\n'
        f'websocket {{ listen: "127.0.0.1:{start.port}", no_tls: true, '
        "compression: false }\n"
        "max_connections: 20000\nmax_pending: 1GB\nwrite_deadline: 60s\n"
    )
    return [str(NATS_SERVER), "-c", str(configuration)]


def _nats_version() -> dict[str, str]:
    told = subprocess.run([str(NATS_SERVER), "-v"], capture_output=True, text=True)
    return {"nats-server": told.stdout.strip().rpartition("v")[2]}


def _node_versions() -> dict[str, str]:
    found = {}
    for name in ("ws", "ioredis", "bufferutil"):
        told = json.loads((NODE / name / "package.json").read_text())
        found[name] = told["version"]
    told_node = subprocess.run(["node", "--version"], capture_output=True, text=True)
    return {"node": told_node.stdout.strip().lstrip("v"), **found}


_CHANNELS = ("channels", "channels_redis", "Django", "redis", "hiredis")
_OURS = ("aiohttp", "gunicorn", "Django", "redis", "hiredis", "msgspec")
_SELF = Path(sys.executable)

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "ours",
            "django-redis-pubsub, handler",
            "gunicorn with aiohttp's uvloop worker; manager.forward",
            _gunicorn("aiohttp.GunicornUVLoopWebWorker"),
            "ours",
            by_url("/listen/"),
            python=_SELF,
            packages=(*_OURS, "uvloop"),
            is_ours=True,
            can_multiply=True,
        ),
        Peer(
            "ours-asyncio",
            "the same on asyncio's loop",
            "gunicorn with aiohttp's asyncio worker; manager.forward",
            _gunicorn("aiohttp.GunicornWebWorker"),
            "ours",
            by_url("/listen/"),
            python=_SELF,
            packages=_OURS,
            is_ours=True,
            can_multiply=True,
        ),
        Peer(
            "live",
            "django-redis-pubsub, live endpoint",
            "gunicorn with aiohttp's uvloop worker; JSON protocol; no personal channels",
            _gunicorn("aiohttp.GunicornUVLoopWebWorker"),
            "ours",
            live,
            python=_SELF,
            packages=(*_OURS, "uvloop"),
            is_ours=True,
            can_multiply=True,
            can_authenticate=True,
        ),
        Peer(
            "live-asyncio",
            "the same on asyncio's loop",
            "gunicorn with aiohttp's asyncio worker; JSON protocol; no personal channels",
            _gunicorn("aiohttp.GunicornWebWorker"),
            "ours",
            live,
            python=_SELF,
            packages=_OURS,
            is_ours=True,
            can_multiply=True,
            can_authenticate=True,
        ),
        Peer(
            "channels-uvicorn",
            "Channels, uvicorn",
            "channels_redis' pub/sub layer; uvloop, httptools, websockets-sansio, "
            "no compression, no access log",
            _uvicorn,
            "channels",
            by_url("/"),
            packages=(*_CHANNELS, "uvicorn", "uvloop", "httptools", "websockets"),
            can_multiply=True,
            can_authenticate=True,
        ),
        Peer(
            "channels-daphne",
            "Channels, daphne",
            "channels_redis' pub/sub layer; no access log",
            _daphne,
            "channels",
            by_url("/"),
            packages=(*_CHANNELS, "daphne", "twisted", "autobahn"),
            can_authenticate=True,
        ),
        Peer(
            "socketio",
            "python-socketio",
            "aiohttp server on uvloop, AsyncRedisManager, WebSocket transport only; "
            "published by a write-only manager",
            _script("socketio_server.py"),
            "socketio",
            socketio,
            packages=("python-socketio", "python-engineio", "aiohttp", "redis", "uvloop"),
        ),
        Peer(
            "ws",
            "Node ws + ioredis",
            "no compression, bufferutil, buffers from Redis to the sockets",
            _node,
            "redis",
            by_url("/"),
            other_versions=_node_versions,
            needs=NODE / "ws",
            environment={"NODE_PATH": str(NODE)},
            can_multiply=True,
        ),
        Peer(
            "nats",
            "NATS' WebSocket port",
            "no TLS, no compression, max_pending 1 GB so that nobody is cut as slow",
            _nats,
            "nats",
            nats,
            other_versions=_nats_version,
            needs=NATS_SERVER,
            has_redis=False,
        ),
        Peer(
            "aiohttp",
            "bare aiohttp, send_str",
            "uvloop, no compression; redis-py's listen()",
            _script("aiohttp_server.py"),
            "redis",
            by_url("/"),
            packages=("aiohttp", "redis", "hiredis", "uvloop"),
        ),
        Peer(
            "picows",
            "bare picows",
            "uvloop; redis-py's listen()",
            _script("picows_server.py"),
            "redis",
            by_url("/"),
            packages=("picows", "redis", "hiredis", "uvloop"),
        ),
    )
}


def _gthread(start: Start) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "benchmarks.site.wsgi:application"),
        *("--bind", f"127.0.0.1:{start.port}", "--workers", "1"),
        *("--worker-class", "gthread", "--threads", "8", "--keep-alive", "75"),
        *("--backlog", "4096", "--log-level", "warning"),
    ]


GTHREAD = Peer(
    "gthread",
    "gunicorn gthread",
    "one worker, 8 threads, keep-alive 75 s: Django's pages alone",
    _gthread,
    "redis",
    by_url("/"),
    python=_SELF,
    packages=("gunicorn", "Django"),
)
"""Serves no sockets: what pages are compared with."""


def publisher_environment(start: Start) -> dict[str, str]:
    """Where publishers find NATS, and the project."""
    return {"NATS_PORT": str(start.port + 1), "PYTHONPATH": os.pathsep.join([str(ROOT)])}
