"""Counters and gauges that a process keeps about itself.

Nothing is lost silently: whoever drops, refuses or fails counts it here under a name.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass


class Metrics:
    """Named counters; cheap enough for every message.

    Incrementing is one dictionary write; from several threads at once a count may
    in theory be missed, never corrupted.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter, e.g. ``"publish_failed"``."""
        self._counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, int]:
        """All counters that were ever incremented."""
        return dict(self._counts)


SUM, MAX, MIN = "sum", "max", "min"


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that goes up and down.

    Attributes:
        name: With its unit at the end.
        help: One line for whoever reads the number.
        read: Gives the number at this moment; on the loop, at once.
        joins: What several processes' numbers become: `SUM`, `MAX` or `MIN`.
        labels: Further parts of its name, as pairs.
    """

    name: str
    help: str
    read: Callable[[], float]
    joins: str = SUM
    labels: tuple[tuple[str, str], ...] = ()


class Gauges:
    """The gauges of one engine. Whoever has a number to show adds it here."""

    def __init__(self) -> None:
        self._gauges: list[Gauge] = []

    def add(self, gauge: Gauge) -> None:
        """Show a gauge, or instead of another of its name and labels."""
        self._gauges = [
            each
            for each in self._gauges
            if (each.name, each.labels) != (gauge.name, gauge.labels)
        ]
        self._gauges.append(gauge)

    def __iter__(self) -> Iterator[Gauge]:
        return iter(self._gauges)


class Occasionally:
    """Says yes once per key and period, so that a flood of errors is one log line.

    Bounded: beyond ``keys`` different keys it starts anew.
    """

    def __init__(self, period_s: float = 60.0, keys: int = 10_000) -> None:
        self._period_s = period_s
        self._keys = keys
        self._last: dict[Hashable, float] = {}

    def __call__(self, key: Hashable) -> bool:
        now = time.monotonic()
        last = self._last.get(key)
        if last is not None and now - last < self._period_s:
            return False
        if len(self._last) >= self._keys:
            self._last.clear()
        self._last[key] = now
        return True
