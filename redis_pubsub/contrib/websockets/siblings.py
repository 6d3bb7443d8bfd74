"""Whether the workers that take this one's place serve yet.

At SIGHUP gunicorn starts new workers and ends the old ones in the same moment. Until the
new ones have loaded Django nobody would accept connections. So whoever is asked to end
waits for its younger siblings. Which of them serve is known by a name that each takes in
the abstract namespace of unix sockets, where it dies with its process. Linux only;
elsewhere nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

_PROC = Path("/proc")
_LOOK_S = 0.1


class Siblings:
    """The processes that have this one's parent and command line."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._name: socket.socket | None = None

    def serve(self) -> None:
        """This process accepts connections from now on, until it ends."""
        if sys.platform == "linux" and self._name is None:
            self._name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # Somebody who takes the name first delays a restart, and no more.
            with contextlib.suppress(OSError):
                self._name.bind(self._address(os.getpid()))

    async def wait_for_younger(self, longest_s: float) -> None:
        """Until each sibling serves, or is gone, that was started after this process."""
        waiting = self._younger()
        end = asyncio.get_running_loop().time() + longest_s
        while waiting and asyncio.get_running_loop().time() < end:
            waiting = [pid for pid in waiting if self._is_starting(pid)]
            await asyncio.sleep(_LOOK_S if waiting else 0)

    def _address(self, pid: int) -> str:
        return f"\0redis-pubsub-worker/{self._parent}/{pid}"

    def _younger(self) -> list[int]:
        mine = _status(os.getpid())
        if mine is None:
            return []
        found = []
        for path in _PROC.glob("[0-9]*"):
            status = _status(int(path.name))
            if status is None or status.parent != self._parent:
                continue
            is_younger = status.started > mine.started
            if is_younger and _command(status.pid) == _command(mine.pid):
                found.append(status.pid)
        return found

    def _is_starting(self, pid: int) -> bool:
        status = _status(pid)
        if status is None or status.parent != self._parent:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            return asking.connect_ex(self._address(pid)) != 0


class _Status:
    """What ``/proc/<pid>/stat`` says of a process that runs."""

    def __init__(self, pid: int, fields: list[str]) -> None:
        self.pid = pid
        self.parent = int(fields[1])
        self.started = (int(fields[19]), pid)


def _status(pid: int) -> _Status | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name before the bracket may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else _Status(pid, fields)


def _command(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
