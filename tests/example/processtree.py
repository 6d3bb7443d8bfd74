"""Whose child is which process, and which process has which connection. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(
    not (PROC / "net").exists(), reason="only Linux tells whose a connection is"
)
_CONNECTIONS = ("tcp", "tcp6")


def children(pid: int) -> set[int]:
    """The direct children of a process."""
    found = set()
    for directory in PROC.iterdir():
        if directory.name.isdigit() and _parent(directory) == pid:
            found.add(int(directory.name))
    return found


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on."""
    found = set()
    for child in children(pid):
        found |= {child, *descendants(child)}
    return found


def is_alive(pid: int) -> bool:
    return _parent(PROC / str(pid)) is not None


def owners_of_clients(port: int, pids: Iterable[int]) -> dict[int, int]:
    """Which of these processes has the connection of which client.

    Args:
        port: Of the server.
        pids: Of its processes.

    Returns:
        A client's port to a process id.
    """
    clients = {}
    for name in _CONNECTIONS:
        for line in (PROC / "net" / name).read_text().splitlines()[1:]:
            _, local, remote, *_, inode = line.split()[:10]
            if _port(local) == port:
                clients[f"socket:[{inode}]"] = _port(remote)
    return {
        clients[link]: pid for pid in pids for link in _open_files(pid) if link in clients
    }


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _open_files(pid: int) -> list[str]:
    links = []
    for file in (PROC / str(pid) / "fd").iterdir():
        try:
            links.append(os.readlink(file))
        except FileNotFoundError:
            pass  # Closed meanwhile.
    return links


def _parent(directory: Path) -> int | None:
    try:
        status = (directory / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # After the command's name, which may hold anything, in parentheses: state, parent.
    state, parent, *_ = status.rpartition(")")[2].split()
    return None if state == "Z" else int(parent)
