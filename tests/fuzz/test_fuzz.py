"""Seconds of fuzzing with the tests: what is kept, bytes of chance, and what is nearly
right. Longer runs: ``python -m tests.fuzz``."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .mutation import CORPUS, Mutator, seeds
from .targets import TARGETS

MUTATED = 2_000


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_target_has_a_corpus():
    """And every corpus a target."""
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)
    assert all(len(seeds(name)) >= 4 for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_mattered_is_taken_or_refused(name):
    """The corpus, whole and cut short at every place."""
    for data in seeds(name):
        TARGETS[name](data)
        for end in range(0, len(data), 1 + len(data) // 200):
            TARGETS[name](data[:end])


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_nearly_right_is_taken_or_refused(name):
    """A decoder's promise holds for thousands of changed inputs."""
    source = Mutator(seeds(name), seed=1)
    for _ in range(MUTATED):
        data = source.next()
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name}: {data!r}") from error


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.binary(max_size=300))
def test_bytes_of_chance_are_taken_or_refused(name, data):
    """The same for what is nothing at all."""
    TARGETS[name](data)
