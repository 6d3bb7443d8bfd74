"""Processes that are asked and answer in lines of JSON, and what the kernel says of them.

A child ends when its standard input does, so nothing outlives the parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SETTINGS = "benchmarks.settings"
_STOP_TIMEOUT_S = 10.0

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ChildFailed(Exception):
    """A child ended, or did not answer in time."""


class Child:
    """A Python module running in a process of its own.

    Args:
        module: Its dotted name.
        arguments: For its command line.
        environment: Added to this process's own.
        python: The interpreter.

    Attributes:
        hello: The first line it wrote.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.name = " ".join([module, *arguments])
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        self.hello = self.read(30)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **command: Any) -> None:
        """Send a command; its answer is read later."""
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def read(self, timeout_s: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            ChildFailed: It ended, or said nothing in time.
        """
        stdout = self._process.stdout
        assert stdout is not None, "opened with a pipe"
        # Answers are read one by one, so nothing is left in the reader's buffer.
        ready, _, _ = select.select([stdout], [], [], timeout_s)
        line = stdout.readline() if ready else b""
        if not line:
            raise ChildFailed(f"{self.name}: {'ended' if ready else 'no answer in time'}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, timeout_s: float = 30, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.tell(**command)
        return self.read(timeout_s)

    def stop(self) -> None:
        """End it: by the end of its input, else by its id."""
        assert self._process.stdin is not None, "opened with a pipe"
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def database() -> Iterator[dict[str, str]]:
    """A new database with all tables; yields the environment of those who use it."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {"TEST_DATA": directory, "TEST_RUN": "benchmark"}
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
            check=True,
            cwd=ROOT,
            env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": SETTINGS},
        )
        yield environment


# -- the child's side ----------------------------------------------------------------


async def answer_lines(answer: Answer) -> None:
    """Answer commands from standard input, one by one, until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        say(await answer(json.loads(line)))


def say(answer: dict[str, Any]) -> None:
    """Write one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def new_loop(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory of ``"asyncio"`` or ``"uvloop"``."""
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def allow_many_files() -> None:
    """As many open sockets as the hard limit lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# -- what the kernel says -----------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, user and system, to the nanosecond.

    Source: clock_getcpuclockid(3) and the kernel's MAKE_PROCESS_CPUCLOCK with
    CPUCLOCK_SCHED; the parent's /proc/<pid>/stat counts in ticks of 10 ms only.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory_kb(pid: int) -> dict[str, int]:
    """RSS, PSS and USS (private pages) of a process, in KiB."""
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        fields[name.rstrip(":")] = int(value)
    return {
        "rss": fields["Rss"],
        "pss": fields["Pss"],
        "uss": fields["Private_Clean"] + fields["Private_Dirty"],
    }


# -- figures -------------------------------------------------------------------------


class Spread(TypedDict):
    """Five rounds and more in three numbers."""

    min: float
    median: float
    max: float


def spread(values: Iterable[float]) -> Spread:
    """The least, the median and the greatest."""
    ordered = sorted(values)
    return Spread(min=ordered[0], median=statistics.median(ordered), max=ordered[-1])


def machine() -> dict[str, Any]:
    """What a figure was measured on, and with."""
    packages = {}
    for name in ("aiohttp", "django", "redis", "hiredis", "uvloop", "msgspec"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "packages": packages,
    }


def save(name: str, loop: str, result: dict[str, Any]) -> str:
    """Write a result, under another name where the loop is not asyncio's, and say where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / (f"{name}.json" if loop == "asyncio" else f"{name}-{loop}.json")
    path.write_text(json.dumps(result, indent=2) + "\n")
    return str(path.relative_to(ROOT))
