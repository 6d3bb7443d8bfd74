"""What the processes write down: lines of JSON, read when all is over.

The writer, one line a transaction, after its outcome is known::

    {"begin": t, "commit": t or null, "end": t, "rows": [[channel, key, n], …]}

``commit`` is taken right after the commit and before anything is published. The clients,
one list a line: ``[client, what, t, …]``, see `tests.chaos.clients.Client`. All times are
of the machine's one monotonic clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """A file that is written line by line; a killed process leaves whole lines, but for
    the last."""

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, "a", buffering=1)  # noqa: SIM115

    def write(self, entry: Any) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")


def read(path: str | Path) -> Iterator[Any]:
    with open(path) as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue
