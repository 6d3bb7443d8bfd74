"""The clients: `clients/sockets.c`, built on the spot, and what to say to each server."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
BUILT = HERE / ".peers" / "bin"
PARALLEL = 100
"""Handshakes in flight while connecting."""


class GeneratorFailed(Exception):
    """The clients ended, did not answer, or could not be built."""


@dataclass(frozen=True)
class Step:
    """Something said, and what is heard in answer.

    Attributes:
        send: A text frame; ``{index}`` in it is the socket's number. Empty for none.
        wait: A word of the answer; empty where nothing is waited for.
        count: How often that word comes.
    """

    send: str = ""
    wait: str = ""
    count: int = 1


@dataclass(frozen=True)
class Dialect:
    """How a client speaks to one kind of server.

    Attributes:
        path: Of the handshake; ``{index}`` is the socket's number.
        steps: What is said after it.
        header: Further lines of the handshake.
        ping: A ping in the server's own words, and what is answered.
        is_stream: Messages may begin and end inside of frames.
    """

    path: str
    steps: tuple[Step, ...] = ()
    header: str = ""
    ping: tuple[str, str] = ("", "")
    is_stream: bool = False


def built(name: str) -> Path:
    """The program of a C file in `clients`, compiled if it is not there yet.

    Raises:
        GeneratorFailed: There is no C compiler, or it fails.
    """
    source = HERE / "clients" / f"{name}.c"
    mark = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = BUILT / f"{name}-{mark}"
    if program.exists():
        return program
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise GeneratorFailed("the benchmarks' clients are in C: install gcc")
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as directory:
        made = Path(directory) / name
        arguments = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(made), str(source)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GeneratorFailed(done.stderr)
        made.rename(program)
    return program


def ask_pages(
    port: int, path: str, *, clients: int, keeps: bool, seconds: float
) -> subprocess.Popen[bytes]:
    """Start clients that ask for a page again and again; see the head of ``pages.c``."""
    program = str(built("pages"))
    numbers = (str(clients), str(int(keeps)), str(int(seconds * 1000)))
    return subprocess.Popen([program, str(port), path, *numbers], stdout=subprocess.PIPE)


class Sockets:
    """Many WebSocket clients in one process; see the head of ``sockets.c``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(built("sockets"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.count = 0
        self.read(10)

    def speak(self, dialect: Dialect) -> None:
        """Use a dialect for the sockets that are opened from now on."""
        self._ask(
            f"dialect path={_hex(dialect.path)} header={_hex(dialect.header)} "
            f"ping={_hex(dialect.ping[0])} pong={_hex(dialect.ping[1])} "
            f"stream={int(dialect.is_stream)}"
        )
        for step in dialect.steps:
            count = step.count if step.wait else 0
            self._ask(f"step send={_hex(step.send)} wait={_hex(step.wait)} count={count}")

    def connect(
        self, port: int, sockets: int, *, parallel: int = PARALLEL, within_s: float = 120
    ) -> dict[str, Any]:
        """Open so many more; how long it took.

        Raises:
            GeneratorFailed: Not all were let in.
        """
        self.count += sockets
        answer = self._ask(
            f"connect port={port} sockets={sockets} parallel={parallel} "
            f"timeout_ms={int(within_s * 1000)}",
            within_s + 10,
        )
        if answer["connected"] != self.count or answer["dead"]:
            raise GeneratorFailed(f"{answer['connected']} of {self.count}: {answer}")
        return answer

    def expect(self, first: int, messages: int, size: int) -> None:
        """Every socket is about to get these."""
        self._ask(f"expect first={first} messages={messages} size={size}")

    def collect(self, within_s: float) -> dict[str, Any]:
        """Wait until every socket has everything, and say how it went."""
        return self._ask(f"collect timeout_ms={int(within_s * 1000)}", within_s + 10)

    def drop(self) -> None:
        """Cut all connections."""
        self._ask("drop", 30)
        self.count = 0

    def _ask(self, command: str, timeout_s: float = 10) -> dict[str, Any]:
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        return self.read(timeout_s)

    def read(self, timeout_s: float) -> dict[str, Any]:
        """The next answer."""
        stdout = self._process.stdout
        assert stdout is not None, "opened with a pipe"
        ready, _, _ = select.select([stdout], [], [], timeout_s)
        line = stdout.readline() if ready else b""
        if not line:
            raise GeneratorFailed("ended" if ready else "no answer in time")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Sockets:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _hex(text: str) -> str:
    return text.encode().hex()
