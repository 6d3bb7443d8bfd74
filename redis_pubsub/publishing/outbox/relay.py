"""What stayed behind in the outbox, published in the background.

Messages stay behind when Redis was away, when the process that committed them died, or
when it left because somebody else held the partition and died then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.apps import apps
from django.db import DatabaseError, connections

from ...conf import Config, get_config
from ...engine import Engine
from ...exceptions import BrokerUnavailable
from ...metrics import MAX, Gauge, Occasionally
from ...models import PublishableModel
from ...models.publishable import uses_outbox
from ..publisher import publisher
from .deliver import note_outage
from .drain import Drain
from .locks import LockLost
from .rows import OutboxState, databases, state, waiting_partitions

logger = logging.getLogger("redis_pubsub.outbox")

POLL_S = 1.0
"""Seconds between two looks, on average."""
LONGEST_S = 3.0
"""Seconds between two attempts, on average, while Redis or the database fails."""
STATE_S = 5.0
"""Seconds between two counts of what waits."""
VISIT_S = 1.0
"""How long a visit to one partition lasts, so that the others have their turn."""

_may_log = Occasionally()


@dataclass(frozen=True, slots=True)
class Round:
    """One look at all partitions of all databases.

    Attributes:
        published: Messages that Redis has now.
        is_left: Some could not be published yet.
        has_failed: Redis or a database did not answer.
    """

    published: int = 0
    is_left: bool = False
    has_failed: bool = False


def is_in_use(config: Config) -> bool:
    """Whether anything of this site goes through the outbox."""
    models = apps.get_models()
    return config.outbox or any(
        uses_outbox(model) for model in models if issubclass(model, PublishableModel)
    )


def relay_once(is_stopping: Callable[[], bool] = lambda: False) -> Round:
    """Publish what waits in every database. Blocking; returns soon after ``is_stopping``.

    A database that fails does not keep the others waiting; one that is not migrated is
    logged once a minute.
    """
    drain = Drain(
        publisher.broker(),
        publisher.metrics,
        get_config().limits.message_bytes,
        is_stopping,
    )
    rounds = [_relay(drain, alias, is_stopping) for alias in databases()]
    return Round(
        sum(each.published for each in rounds),
        any(each.is_left for each in rounds),
        any(each.has_failed for each in rounds),
    )


def _relay(drain: Drain, using: str, is_stopping: Callable[[], bool]) -> Round:
    published, is_left = 0, False
    try:
        partitions = waiting_partitions(using)
        # Two relays begin in different places rather than meet at every partition.
        random.shuffle(partitions)
        for partition in partitions:
            if is_stopping() or publisher.is_diverted:
                return Round(published, is_left=True)
            drained = drain(using, partition, for_s=VISIT_S)
            published += drained.published
            is_left = is_left or drained.is_left or drained.is_taken
    except BrokerUnavailable as error:
        note_outage(error)
        return Round(published, is_left=True, has_failed=True)
    except LockLost:
        return Round(published, is_left=True)
    except DatabaseError as error:
        publisher.metrics.count("outbox_errors")
        if _may_log(using):
            logger.error("the outbox of %r cannot be read: %s", using, error)
        # Whatever state it is in, the next round gets a new one.
        connection = connections[using]
        if not connection.in_atomic_block:
            connection.close()
        return Round(published, is_left=True, has_failed=True)
    return Round(published, is_left)


class Pauses:
    """How long to wait between two rounds: longer while something fails, never in step
    with other processes."""

    def __init__(self) -> None:
        self._wait_s = POLL_S

    def after(self, done: Round) -> float:
        """Seconds to wait; none where there is more to publish."""
        if done.has_failed:
            self._wait_s = min(LONGEST_S, self._wait_s * 1.5)
        else:
            self._wait_s = POLL_S
            if done.is_left and done.published:
                return 0.0
        return self._wait_s * random.uniform(0.5, 1.5)


class Relay:
    """Relays for one serving process, in its threads for database work.

    Made by ``engine.part(Relay)``; ends with the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = asyncio.Event()
        # The same for the thread that works.
        self._is_stopping = threading.Event()
        self._task: asyncio.Task[None] | None = None
        # As the database said last; every process asks, so the greatest counts.
        self._state = OutboxState(0, 0.0, 0)
        self._state_at = -math.inf

    def start(self) -> None:
        """Begin, if the site uses the outbox; not inside a test's own transaction, whose
        rows only the test may publish."""
        if self._engine.orm.in_test_thread or not is_in_use(self._engine.config):
            return
        for gauge in self._gauges():
            self._engine.gauges.add(gauge)
        self._task = asyncio.create_task(self._stay_alive(), name="redis-pubsub-relay")
        self._engine.closing.push_async_callback(self.close)

    async def close(self) -> None:
        """Stop after the round trip that is under way."""
        self._stop.set()
        self._is_stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None

    async def _stay_alive(self) -> None:
        pauses = Pauses()
        # Workers that were started together look at different times.
        await self._pause(random.uniform(0, POLL_S))
        while not self._stop.is_set():
            try:
                done = await self._engine.orm.run(relay_once, self._is_stopping.is_set)
                await self._look()
            except Exception:
                publisher.metrics.count("outbox_relay_crashed")
                logger.exception("relaying from the outbox failed; trying again")
                done = Round(has_failed=True)
            await self._pause(pauses.after(done))

    async def _look(self) -> None:
        """How much is left, for whoever watches."""
        now = time.monotonic()
        if now - self._state_at >= STATE_S:
            self._state_at = now
            self._state = await self._engine.orm.run(state)

    def _gauges(self) -> list[Gauge]:
        return [
            Gauge(
                "outbox_messages",
                "Messages that wait in the outbox",
                lambda: self._state.depth,
                MAX,
            ),
            Gauge(
                "outbox_oldest_seconds",
                "Age of the oldest message that waits in the outbox",
                lambda: self._state.oldest_s,
                MAX,
            ),
            Gauge(
                "outbox_parked",
                "Messages of the outbox that cannot be published",
                lambda: self._state.parked,
                MAX,
            ),
        ]

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


def relay_until(is_stopping: threading.Event) -> None:
    """Relay in this thread until somebody asks to stop."""
    pauses = Pauses()
    while not is_stopping.is_set():
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()
        try:
            done = relay_once(is_stopping.is_set)
        except Exception:
            publisher.metrics.count("outbox_relay_crashed")
            logger.exception("relaying from the outbox failed; trying again")
            done = Round(has_failed=True)
        is_stopping.wait(pauses.after(done))


def relay_all(longest_s: float) -> int:
    """Relay until nothing is left that can be published, the time is over, or Redis or a
    database does not answer. What others publish, or has to be tried again, is waited for.

    Returns:
        How many messages were published.
    """
    end, published, pauses = time.monotonic() + longest_s, 0, Pauses()
    while True:
        done = relay_once(lambda: time.monotonic() > end)
        published += done.published
        is_over = time.monotonic() > end or publisher.is_diverted
        if not done.is_left or done.has_failed or is_over:
            return published
        time.sleep(pauses.after(done))
