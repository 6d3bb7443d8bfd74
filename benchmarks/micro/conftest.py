"""Micro-benchmarks need no database and no Redis; the guard of the tests is off."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

Work = Callable[[], object]


@pytest.fixture
def ratio() -> Callable[[Work, Work], float]:
    """The cost of one piece of work to that of another: the least of many rounds each, in
    turn, so that neither the machine's speed nor its other work is in it."""

    def measure(work: Work, other: Work, rounds: int = 60) -> float:
        least = [float("inf"), float("inf")]
        for _ in range(rounds):
            for place, each in enumerate((work, other)):
                began = time.perf_counter_ns()
                each()
                least[place] = min(least[place], time.perf_counter_ns() - began)
        return least[0] / least[1]

    return measure
