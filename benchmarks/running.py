"""One peer, running: its Redis, its server, its publisher and its clients."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from redis_pubsub.testing import RedisServer

from .generator import Dialect, Sockets
from .peers import ROOT, Peer, Start, publisher_environment
from .processes import Child, cpu_s, memory_kb

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0


class ServerFailed(Exception):
    """A server ended, or does not listen."""


class Running:
    """A started peer.

    Args:
        peer: Which.
        environment: For server and publisher.
        workers: How many worker processes.
    """

    def __init__(
        self, peer: Peer, environment: dict[str, str] | None = None, *, workers: int = 1
    ) -> None:
        self.peer = peer
        self._stack = ExitStack()
        self._first = 0
        self._senders: dict[str, Child] = {}
        try:
            self._start_all(environment or {}, workers)
        except BaseException:
            self._stack.close()
            raise

    def _start_all(self, environment: dict[str, str], workers: int) -> None:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.start = Start(_free_ports(), workers, directory)
        self.redis_pid: int | None = None
        self._environment = {
            **self.peer.environment,
            **publisher_environment(self.start),
            **environment,
        }
        if self.peer.has_redis:
            redis = self._stack.enter_context(RedisServer())
            self.redis_pid = redis.pid
            self._environment["REDIS_URL"] = redis.url
        self._log = Path(directory) / "log"
        self._server = self._start_server()
        self._stack.callback(self._stop_server)
        self._wait()
        self.load = self._stack.enter_context(Sockets())

    def _start_server(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            return subprocess.Popen(
                self.peer.command(self.start),
                cwd=ROOT,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        wanted = self.start.workers
        while time.monotonic() < end:
            if self._server.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.start.port), 1).close()
            except OSError:
                time.sleep(0.05)
                continue
            # Listening is not yet serving where workers are forked afterwards.
            if wanted == 1 or len(self.pids()) > wanted:
                time.sleep(1.0)
                return
        raise ServerFailed(f"{self.peer.name}: {self.log()[-2000:]}")

    def log(self) -> str:
        """What the server wrote."""
        return self._log.read_text(errors="replace")

    def _stop_server(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                os.kill(pid, 9)
            self._server.wait()

    def pids(self) -> list[int]:
        """The server's processes: the one that was started and all its children's."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self._server.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds of the server's processes, and of its Redis."""
        used = sum(cpu_s(pid) for pid in self.pids())
        return used, cpu_s(self.redis_pid) if self.redis_pid else 0.0

    def memory_kb(self) -> dict[str, int]:
        """Memory of the server's processes together."""
        total: dict[str, int] = {}
        for pid in self.pids():
            for name, value in memory_kb(pid).items():
                total[name] = total.get(name, 0) + value
        return total

    def connect(
        self, sockets: int, channels: list[str], token: str = "", **options: Any
    ) -> dict[str, Any]:
        """Open sockets; ``{index}`` in a channel's name is the socket's number."""
        dialect: Dialect = self.peer.dialect(channels, token)
        self.load.speak(dialect)
        return self.load.connect(self.start.port, sockets, **options)

    def round(
        self,
        channels: list[str],
        messages: int,
        *,
        size: int = 100,
        rate: float = 0,
        chunk: int = 0,
        within_s: float = 120,
    ) -> dict[str, Any]:
        """Publish so many messages to each channel, wait for the last, and count."""
        publisher = self._sender("publish", {})
        chunk = chunk or (1 if rate else 100)
        run = {"channels": channels, "rate": rate, "chunk": chunk}
        return self._send(publisher, {**run, **self._next(messages, size)}, within_s)

    def save(
        self,
        kind: str,
        channel: str,
        messages: int,
        *,
        database: str,
        rate: float = 0,
        within_s: float = 120,
    ) -> dict[str, Any]:
        """Save so many rows of a kind; see `benchmarks.peers.servers.save`.

        Args:
            kind: ``silent`` rows are heard by nobody, all others by every socket.
            channel: Where.
            messages: How many.
            database: As Django has it, JSON.
            rate: A second; 0 for no pause.
            within_s: How long the last may take.
        """
        saver = self._sender("save", {"BENCHMARK_ROWS": database})
        run = {"kind": kind, "channel": channel, "rate": rate}
        if kind != "silent":
            run |= self._next(messages, 100)
            seen = self._send(saver, run, within_s)
            return {**seen, **seen["publisher"]}
        run |= {"first": 0, "messages": messages, "size": 100}
        told = saver.ask(within_s, **run)
        return {"messages": messages, "is_complete": True, **told}

    def _next(self, messages: int, size: int) -> dict[str, Any]:
        first = self._first
        self._first += messages
        return {"first": first, "messages": messages, "size": size}

    def _sender(self, module: str, environment: dict[str, str]) -> Child:
        """The process that publishes, or saves; started when it is first needed."""
        if module not in self._senders:
            self._senders[module] = self._stack.enter_context(
                Child(
                    f"benchmarks.peers.servers.{module}",
                    self.peer.publisher,
                    environment={**self._environment, **environment},
                    python=str(self.peer.python),
                )
            )
        return self._senders[module]

    def _send(self, sender: Child, run: dict[str, Any], within_s: float) -> dict[str, Any]:
        messages = run["messages"]
        self.load.expect(run["first"], messages, run["size"])
        server, redis = self.cpu_s()
        sender.tell(**run)
        seen = self.load.collect(within_s)
        server_after, redis_after = self.cpu_s()
        published = sender.read(within_s)
        deliveries = max(1, seen["deliveries"])
        took = (seen["finished_us"] - published["started_us"]) / 1e6
        return {
            "messages": messages,
            "deliveries": seen["deliveries"],
            "took_s": took,
            "deliveries_per_s": deliveries / took if took > 0 else 0.0,
            "cpu_us_per_delivery": (server_after - server) / deliveries * 1e6,
            "redis_cpu_us_per_delivery": (redis_after - redis) / deliveries * 1e6,
            "server_core_share": (server_after - server) / took if took > 0 else 0.0,
            "load_core_share": seen["core_share"],
            "wire_bytes_per_delivery": seen["bytes"] / deliveries,
            "deliveries_per_read": deliveries / max(1, seen["reads"]),
            "latency_ms": seen["latency_ms"],
            "publisher": published,
            "load": seen,
            "is_complete": seen["complete"] == self.load.count
            and not any(
                seen[name]
                for name in ("late", "disordered", "malformed", "unexpected", "dead")
            ),
        }

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _free_ports() -> int:
    """A port that is free, as is the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
