"""Everybody has his turn, a part at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from redis_pubsub.metrics import Metrics
from redis_pubsub.rounds import PARTS, Rounds

USERS = [str(n) for n in range(1_000)]


@pytest.fixture
async def turns():
    """Rounds, and whose turns they gave: a set of users for each."""
    given = []
    metrics = Metrics()
    rounds = Rounds(0.05, metrics)

    def fail(is_due):
        raise RuntimeError("a visit that fails")

    rounds.visits += [fail, lambda is_due: given.append([u for u in USERS if is_due(u)])]
    rounds.start()
    yield given, metrics
    rounds.close()


async def test_each_user_has_one_turn_in_a_round(turns, until, caplog):
    """In parts of about one size; a visit that fails is logged and keeps no other."""
    given, metrics = turns

    await until(lambda: len(given) >= 2 * PARTS)

    for begin in (0, PARTS):
        counts = Counter(user for turn in given[begin : begin + PARTS] for user in turn)
        assert counts == Counter(USERS)
    assert max(map(len, given)) < 2 * len(USERS) / PARTS
    assert metrics["refresh_errors"] >= 2 * PARTS
    assert "looking again failed" in caplog.text


async def test_without_a_period_there_are_no_rounds():
    rounds = Rounds(0, Metrics())
    rounds.visits.append(pytest.fail)

    rounds.start()
    for _ in range(5):
        await asyncio.sleep(0)

    rounds.close()
