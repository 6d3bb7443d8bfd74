"""How full the queues are, for whoever watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from ..broker.jobs import QueueState
from ..engine import Engine
from ..exceptions import BrokerUnavailable
from ..metrics import MAX, Gauge

logger = logging.getLogger("redis_pubsub.worker")

PERIOD_S = 5.0


class QueueWatch:
    """Looks at queues every few seconds and shows their gauges.

    Every process that watches sees the same, so the greatest counts.

    Args:
        engine: Broker and gauges; the watch ends with it.
        queues: Names.
    """

    def __init__(self, engine: Engine, queues: Iterable[str]) -> None:
        self._engine = engine
        self._queues = sorted(set(queues))
        self._states: dict[str, QueueState] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; where there are no queues, there is nothing to see."""
        if not self._queues or self._task is not None:
            return
        for queue in self._queues:
            for gauge in self._gauges(queue):
                self._engine.gauges.add(gauge)
        self._task = asyncio.create_task(self._look(), name="redis-pubsub-queues")
        self._engine.closing.push_async_callback(self._close)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)

    async def _look(self) -> None:
        while True:
            try:
                jobs = self._engine.hub.broker.jobs
                self._states = dict(await jobs.state(self._queues))
            except BrokerUnavailable:
                self._engine.metrics.count("worker_unavailable")
            except Exception:
                self._engine.metrics.count("worker_errors")
                logger.exception("the queues could not be looked at")
            await asyncio.sleep(PERIOD_S)

    def _state(self, queue: str) -> QueueState:
        return self._states.get(queue, QueueState())

    def _gauges(self, queue: str) -> list[Gauge]:
        labels = (("queue", queue),)
        return [
            Gauge(
                "queue_jobs",
                "Jobs that wait for a worker",
                lambda: self._state(queue).waiting,
                MAX,
                labels,
            ),
            Gauge(
                "queue_running",
                "Jobs that workers have",
                lambda: self._state(queue).running,
                MAX,
                labels,
            ),
            Gauge(
                "queue_later",
                "Jobs that are due later, retries among them",
                lambda: self._state(queue).later,
                MAX,
                labels,
            ),
            Gauge(
                "queue_oldest_seconds",
                "Age of the oldest job that is not done",
                lambda: self._state(queue).oldest_s,
                MAX,
                labels,
            ),
            Gauge(
                "queue_dead_letters",
                "Jobs that failed for good",
                lambda: self._state(queue).dead,
                MAX,
                labels,
            ),
        ]
