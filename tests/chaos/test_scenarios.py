"""What must stay true under a fault; and that the check would notice if it did not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from . import scenarios
from .conftest import IS_FULL
from .scenarios import LENGTH, SCENARIOS, Scenario, complaints, has_bitten, pace, run
from .stand import Databases

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

SHORT = ("R1", "R5", "R11", "W1", "D3")
SHORT_TWINS = ("R1",)
SEEDS = int(os.environ.get("CHAOS_SEEDS", "1"))
PATIENCE = 2.0
"""Other tests run at the same time, on machines with two cores."""


@pytest.fixture(autouse=True)
def length() -> Iterator[None]:
    pace.factor = LENGTH["full" if IS_FULL else "short"]
    pace.patience = PATIENCE
    yield
    pace.factor, pace.patience = LENGTH["full"], 1.0


def _before_and_after(scenario: Scenario) -> dict[str, float]:
    if IS_FULL:
        return {"before_s": 8.0, "after_s": max(8.0, scenario.heal_s)}
    return {"before_s": 2.0, "after_s": scenario.heal_s if scenario.heal_s > 5 else 2.0}


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("name", SCENARIOS if IS_FULL else SHORT)
def test_nothing_is_lost_repeated_reordered_or_invented(
    name: str, seed: int, bases: Databases, tmp_path: Path
):
    scenario = SCENARIOS[name]

    verdict, problems = run(
        scenario, tmp_path, bases, seed=seed, **_before_and_after(scenario)
    )

    assert complaints(scenario, verdict) + problems == [], verdict


@pytest.mark.parametrize(
    "name", [n for n in SCENARIOS if SCENARIOS[n].off] if IS_FULL else SHORT_TWINS
)
def test_without_the_mechanism_the_fault_does_harm(
    name: str, bases: Databases, tmp_path: Path
):
    """A test that cannot fail proves nothing."""
    scenario = SCENARIOS[name]

    verdict, _ = run(
        scenario, tmp_path, bases, before_s=2, after_s=3, quiet_s=5, off=scenario.off
    )

    assert has_bitten(scenario, verdict), verdict


def test_without_a_fault_nothing_is_wrong(bases: Databases, tmp_path: Path):
    """Not even what some faults are allowed: no reconnect, no repeat, nobody told."""
    calm = replace(SCENARIOS["R1"], fault=scenarios.nothing)

    verdict, _ = run(calm, tmp_path, bases, before_s=1, after_s=1)

    assert complaints(calm, verdict) == [], verdict
    assert (verdict.told, verdict.raw_repeats, verdict.codes) == (0, 0, {})
