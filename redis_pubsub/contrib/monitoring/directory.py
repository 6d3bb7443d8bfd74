"""Where the processes of one server leave their numbers for each other.

A file for each, which it replaces; and beside it a lock that it holds as long as it
lives, however it ends. What a dead one has counted is kept, so that sums never fall.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from .numbers import Numbers, added

SILENT_S = 10.0
"""A process that has left nothing new for so long shows no gauges."""
_ENDED = "ended.counters"
_JOINING = "joining"


class Left(msgspec.Struct, frozen=True):
    """What a process has left.

    Attributes:
        at: When, by the clock of the machine.
        numbers: What it showed.
    """

    at: float
    numbers: Numbers


class Directory:
    """Blocking: for threads.

    Args:
        path: Of this user alone; made where it is missing.
        name: Of this process, unlike any other's.

    Raises:
        OSError: It cannot be used, or belongs to somebody else.
    """

    def __init__(self, path: Path, name: str) -> None:
        if path.parent == _base():
            _make_own(path.parent)
        _make_own(path)
        self._path = path
        self._name = name
        self._lock = os.open(path / f"{name}.alive", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def leave(self, numbers: Numbers) -> None:
        """Replace what this process has left."""
        new = self._path / f"{self._name}.new"
        new.write_bytes(msgspec.json.encode(Left(time.time(), numbers)))
        new.replace(self._path / f"{self._name}.json")

    def others(self) -> list[Left]:
        """What the other living processes have left, and one of all dead ones."""
        with self._joining():
            living, dead = [], []
            for path in self._path.glob("*.json"):
                if path.stem == self._name:
                    continue
                left = msgspec.json.decode(path.read_bytes(), type=Left)
                if _is_held(path.with_suffix(".alive")):
                    living.append(left)
                else:
                    dead.append((path, left))
            ended = self._ended([left for _, left in dead])
            for path, _ in dead:
                path.unlink()
                path.with_suffix(".alive").unlink(missing_ok=True)
        return [*living, Left(time.time(), Numbers(ended))]

    def close(self) -> None:
        """This process ends; what it has left stays for the others.

        The last one removes everything: sums that begin anew at nothing are read as the
        restart that they are.
        """
        # First let go: of two that end at once, the later sees that nobody is left.
        os.close(self._lock)
        with suppress(FileNotFoundError), self._joining():
            if not any(_is_held(path) for path in self._path.glob("*.alive")):
                shutil.rmtree(self._path, ignore_errors=True)
        if self._path.parent == _base():
            with suppress(OSError):  # Other servers are there.
                self._path.parent.rmdir()

    def abandon(self) -> None:
        """Let go of a directory that somebody has removed."""
        os.close(self._lock)

    def _ended(self, newly: list[Left]) -> dict[str, int]:
        """What all dead processes have counted."""
        path, ended = self._path / _ENDED, {}
        with suppress(FileNotFoundError):
            ended = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        if newly:
            ended = added([ended, *(left.numbers.counters for left in newly)])
            new = path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(ended))
            new.replace(path)
        return ended

    @contextmanager
    def _joining(self) -> Iterator[None]:
        descriptor = os.open(self._path / _JOINING, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def shared_path() -> Path | None:
    """Where this process and its siblings meet; ``None`` where it serves alone.

    ``PROMETHEUS_MULTIPROC_DIR`` where it is set. Workers of gunicorn meet without it: in a
    directory named after their parent and the moment it was started.
    """
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if named:
        return Path(named) / "redis-pubsub"
    if os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):
        parent = os.getppid()
        return _base() / f"{parent}-{_started(parent)}"
    return None


def sweep() -> None:
    """Remove what servers have left that are no more."""
    for path in _base().glob("*-*"):
        parent, _, started = path.name.partition("-")
        if started and parent.isdecimal() and _started(int(parent)) != started:
            shutil.rmtree(path, ignore_errors=True)


def _base() -> Path:
    return Path(tempfile.gettempdir()) / f"redis-pubsub-metrics-{os.getuid()}"


def _make_own(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to somebody else")


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; ``""`` where nobody knows."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name before it is in parentheses and may hold anything.
    return text.rpartition(")")[2].split()[19]


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
