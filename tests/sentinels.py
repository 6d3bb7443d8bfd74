"""Redis with Sentinel, for real: a master, a replica of it, and who watches them."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from redis_pubsub.testing import RedisServer
from redis_pubsub.testing.server import find_redis_server
from tests.processes import free_port

SERVICE = "mymaster"
DOWN_AFTER_S = 1.0
_START_S = 20.0


class Sentinels:
    """Watches a master; use as ``with``.

    Args:
        home: Where configurations and logs go.
        master_port: On 127.0.0.1.
        count: How many sentinels; most of them have to agree.
        replicas: How many they must have found before `__enter__` returns.
        extra: Further lines of their configurations.
    """

    def __init__(
        self,
        home: Path,
        master_port: int,
        *,
        count: int = 3,
        replicas: int = 1,
        extra: str = "",
    ) -> None:
        self._home = home
        self._master_port = master_port
        self._replicas = replicas
        self._extra = extra
        self.ports = [free_port() for _ in range(count)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def hosts(self) -> str:
        """As they stand in a URL."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{SERVICE}/0"

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def __enter__(self) -> Sentinels:
        self._home.mkdir(parents=True, exist_ok=True)
        try:
            for port in self.ports:
                self._start(port)
            for port in self.ports:
                self._wait(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def fail_over(self) -> None:
        """Ask for another master while this one lives."""
        with contextlib.closing(self.sentinel(0)) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", SERVICE)

    def master(self) -> int:
        """Port of whom the first sentinel calls the master."""
        with contextlib.closing(self.sentinel(0)) as sentinel:
            return int(sentinel.sentinel_master(SERVICE)["port"])

    def wait_for_master(self, port: int, longest_s: float = _START_S) -> None:
        """Wait until all of them name that one."""
        end = time.monotonic() + longest_s
        for index in range(len(self.ports)):
            with contextlib.closing(self.sentinel(index)) as sentinel:
                while sentinel.sentinel_master(SERVICE)["port"] != port:
                    assert time.monotonic() < end, "no failover came about"
                    time.sleep(0.02)

    def sentinel(self, index: int) -> Any:
        return Redis(port=self.ports[index], socket_timeout=5)

    def _start(self, port: int) -> None:
        executable = find_redis_server()
        assert executable is not None
        directory = self._home / f"sentinel-{port}"
        directory.mkdir()
        quorum = len(self.ports) // 2 + 1
        path = directory / "sentinel.conf"
        path.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master_port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {int(DOWN_AFTER_S * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n{self._extra}"
        )
        with (directory / "log").open("ab") as log:
            command = [executable, str(path), "--sentinel"]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append(process)

    def _wait(self, port: int) -> None:
        """Until it knows the others."""
        end = time.monotonic() + _START_S
        with contextlib.closing(Redis(port=port, socket_timeout=5)) as sentinel:
            while True:
                with contextlib.suppress(RedisError):
                    state = sentinel.sentinel_master(SERVICE)
                    others = state["num-other-sentinels"], state["num-slaves"]
                    if others == (len(self.ports) - 1, self._replicas):
                        return
                assert time.monotonic() < end, "the sentinels do not find each other"
                time.sleep(0.05)


class Replicated:
    """A master and a replica on TCP, watched; use as ``with``.

    Attributes:
        servers: The first master, then its replica.
        ports: Theirs.
    """

    def __init__(self, home: Path, *, count: int = 3) -> None:
        self.ports = [free_port(), free_port()]
        common = ("--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
        follows = ("--replicaof", f"127.0.0.1 {self.ports[0]}")
        self.servers = [
            RedisServer(
                home / f"redis-{port}", arguments=("--port", str(port), *common, *more)
            )
            for port, more in zip(self.ports, ((), follows), strict=True)
        ]
        self.sentinels = Sentinels(home, self.ports[0], count=count)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Replicated:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self._wait_for_replica()
            stack.enter_context(self.sentinels)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _wait_for_replica(self) -> None:
        end = time.monotonic() + _START_S
        with contextlib.closing(Redis(port=self.ports[1], socket_timeout=5)) as replica:
            while replica.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < end, "the replica does not follow"
                time.sleep(0.05)
