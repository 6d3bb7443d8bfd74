"""Files that an application answers with, read in blocks worth a thread's turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

FILE_BLOCK_BYTES = 262_144
"""Django asks for 4 KiB; a turn of the event loop for each would take most of the time."""


class Readable(Protocol):
    """What ``wsgi.file_wrapper`` is given."""

    def read(self, size: int, /) -> bytes: ...


class FileWrapper:
    """The ``wsgi.file_wrapper`` of PEP 3333.

    Args:
        file: Its ``close``, where it has one, is called at the end.
        block_size: A wish; blocks are never smaller than 256 KiB, except the last.
    """

    def __init__(self, file: Readable, block_size: int = FILE_BLOCK_BYTES) -> None:
        self._file = file
        self._block_size = max(block_size, FILE_BLOCK_BYTES)

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_size):
            yield block

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()
