"""Servers in processes of their own, started and ended by a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A command whose output is kept, and which can be waited for."""

    def __init__(
        self, *command: str, env: dict[str, str], python: str = sys.executable
    ) -> None:
        self._process = subprocess.Popen(
            [python, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1, timeout_s: float = 20) -> None:
        """Until the output has a text so often."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: (
                    self.output.count(text) >= times or self._process.poll() is not None
                ),
                timeout_s,
            )
        assert found and self.output.count(text) >= times, self.output

    def wait_for_port(self, port: int, timeout_s: float = 20) -> None:
        """Until somebody answers there."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(self.output)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> int:
        """Stop it; its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 20) -> int:
        """Its exit status, once it has ended."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError(f"did not end: {self.output}") from None
        self._reader.join(5)
        return status

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(5)
