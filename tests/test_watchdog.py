"""The thread that notices an event loop that stands still."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from redis_pubsub.conf import read
from redis_pubsub.engine import Engine
from redis_pubsub.metrics import Metrics
from redis_pubsub.watchdog import LoopWatchdog

pytestmark = pytest.mark.may_block(reason="blocks the loop on purpose")


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
async def watchdog(metrics):
    dog = LoopWatchdog(0.1, metrics)
    dog.start()
    yield dog
    dog.close()


def block_until(condition):
    """What a callback must not do; bounded."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


async def test_a_blockage_is_logged_once_with_the_place(watchdog, metrics, caplog, until):
    """The log names the function that blocks and its line, once, and its end."""
    block_until(lambda: metrics["loop_blocked"])
    await until(lambda: "goes on after" in caplog.text)

    (first, last) = caplog.records
    assert first.levelno == logging.ERROR and last.levelno == logging.WARNING
    assert "block_until (" in first.getMessage() and __file__ in first.getMessage()
    assert "time.sleep(0.01)" in first.getMessage()
    assert metrics["loop_blocked"] == 1


async def test_every_blockage_counts(watchdog, metrics, caplog, until):
    """A second one is noticed as the first was."""
    block_until(lambda: metrics["loop_blocked"] == 1)
    await until(lambda: caplog.text.count("goes on after") == 1)
    block_until(lambda: metrics["loop_blocked"] == 2)

    assert metrics["loop_blocked"] == 2


async def test_a_loop_that_runs_is_left_in_peace(watchdog, metrics, caplog):
    """Busy is not blocked: many short turns, no line."""
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        await asyncio.sleep(0)

    assert metrics["loop_blocked"] == 0 and caplog.text == ""


async def test_the_lag_is_measured(watchdog, until):
    """The gauge shows how late timers came."""
    time.sleep(0.08)

    await until(lambda: watchdog.lag_s > 0.02)
    await until(lambda: watchdog.lag_s < 0.02)


async def test_the_thread_ends(watchdog, until):
    """Nothing stays after `close`."""
    assert watchdog.is_running

    watchdog.close()

    await until(lambda: not watchdog.is_running)


async def test_an_engine_has_one_that_ends_with_it(pubsub_memory, until):
    """Started after the fork, with the limit ``loop_block_s``."""
    engine = Engine(read({"url": pubsub_memory, "limits": {"loop_block_s": 0.1}}))
    await engine.start()

    block_until(lambda: engine.metrics["loop_blocked"])
    await engine.close()

    assert engine.metrics["loop_blocked"] == 1
    await until(lambda: not engine.watchdog.is_running)
