"""Saves rows in random transactions: ``python -m tests.chaos.writer OPTIONS``.

Of all transactions 15 % are rolled back, 10 % have 2 to 5 rows, 5 % save in bulk, 4 % stay
open for 0.3 s; several threads, so that they overlap. Ends at SIGTERM. Knows of the site
only the module that ``CHAOS_MODELS`` names.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import defaultdict
from typing import Any

import django

from tests.chaos.ledger import Ledger


class Undo(Exception):
    """Rolls a transaction back."""


class Writer:
    """Args: see `main`."""

    def __init__(self, site: Any, options: dict[str, Any], ledger: Ledger) -> None:
        self._site = site
        self._options = options
        self._ledger = ledger
        self._lock = threading.Lock()
        self._n: dict[str, int] = defaultdict(int)
        self._channels = [
            site.channel(f"room:{i:02}") for i in range(int(options["channels"]))
        ]
        self.is_over = threading.Event()

    def run(self, seed: int) -> None:
        """One thread's transactions."""
        from django.db import connection

        chance = random.Random(seed)
        # 1.45 rows a transaction, on average.
        each_s = self._options["threads"] * 1.45 / self._options["rate"]
        while not self.is_over.wait(chance.expovariate(1 / each_s)):
            try:
                self._transaction(chance)
            except Exception as error:
                with self._lock:
                    self._ledger.write({"error": repr(error), "at": time.monotonic()})
                connection.close()
        connection.close()

    def _transaction(self, chance: random.Random) -> None:
        from django.db import transaction

        draw = chance.random()
        is_bulk = draw < 0.05
        count = 5 if is_bulk else chance.randint(2, 5) if draw < 0.15 else 1
        is_undone = chance.random() < 0.15
        is_held = chance.random() < self._options["held"]
        rows = self._rows(count, chance)
        entry: dict[str, Any] = {"begin": time.monotonic(), "commit": None}
        entry["rows"] = [[row.channel.name, row.key, row.n] for row in rows]

        def committed() -> None:
            entry["commit"] = time.monotonic()
            die = getattr(sys.modules.get("tests.chaos.site.sabotage"), "die", None)
            if die is not None:
                die("commit")

        try:
            with transaction.atomic():
                # First in line, so that it runs before anything is published.
                transaction.on_commit(committed)
                (self._site.save_in_bulk if is_bulk else self._site.save)(rows)
                if is_held:
                    time.sleep(0.3)
                if is_undone:
                    raise Undo
        except Undo:
            pass
        entry["end"] = time.monotonic()
        with self._lock:
            self._ledger.write(entry)

    def _rows(self, count: int, chance: random.Random) -> list[Any]:
        channels = chance.sample(self._channels, min(2, count, len(self._channels)))
        rows = []
        with self._lock:
            for _ in range(count):
                channel = chance.choice(channels)
                self._n[channel.name] += 1
                rows.append(
                    self._site.Row(
                        channel=channel,
                        key=uuid.uuid4().hex[:16],
                        n=self._n[channel.name],
                        body="x" * chance.randint(10, 200),
                    )
                )
        return rows


def main(options: dict[str, Any]) -> None:
    """Options: ``ledger`` a path, ``channels``, ``rate`` rows a second, ``threads``,
    ``held`` the share of transactions that stay open, ``seed``."""
    django.setup()
    site = importlib.import_module(os.environ["CHAOS_MODELS"])
    writer = Writer(site, options, Ledger(options["ledger"]))
    signal.signal(signal.SIGTERM, lambda *_: writer.is_over.set())
    threads = [
        threading.Thread(target=writer.run, args=(options["seed"] * 100 + i,))
        for i in range(int(options["threads"]))
    ]
    for thread in threads:
        thread.start()
    print("writing")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
