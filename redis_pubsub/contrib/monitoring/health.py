"""Is this process of use? Messages arrive, the database answers, and it is to stay."""

from __future__ import annotations

import asyncio
import logging
import time

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from ...broker.liveness import SILENT_INTERVALS
from ...engine import Engine
from ...metrics import MIN, Gauge, Occasionally
from ...web.connections import Connections

logger = logging.getLogger("redis_pubsub.health")

DATABASE_FRESH_S = 3.0
"""How long an answer of the database counts."""
DATABASE_TIMEOUT_S = 2.0
"""How long it may take."""


class Health:
    """Knows what keeps one engine from being of use."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections: Connections = engine.part(Connections)
        self._silence_s = SILENT_INTERVALS * engine.config.limits.probe_s
        self._may_log = Occasionally()
        # One question at a time: a database that hangs holds one thread, not all.
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = float("-inf")
        self._answered_at = float("-inf")
        self._database = ""
        engine.gauges.add(
            Gauge(
                "is_ready",
                "1 if messages arrive, the database answers and no end is near",
                lambda: 0 if self.glance() else 1,
                MIN,
            )
        )
        engine.closing.callback(self._close)

    async def look(self) -> dict[str, str]:
        """What keeps this process from being of use, by its part; empty if nothing.

        Asks the database where its last answer is older than `DATABASE_FRESH_S`, and
        waits for `DATABASE_TIMEOUT_S` at most.
        """
        now = time.monotonic()
        if self._asking is None and now - self._answered_at >= DATABASE_FRESH_S:
            self._asked_at = now
            self._asking = asyncio.create_task(
                self._ask_database(), name="redis-pubsub-health"
            )
            self._asking.add_done_callback(self._answered)
        if self._asking is not None:
            left_s = self._asked_at + DATABASE_TIMEOUT_S - now
            await asyncio.wait([self._asking], timeout=max(0.0, left_s))
        return self.glance()

    def glance(self) -> dict[str, str]:
        """As `look`, of the database only what is known already."""
        problems = {}
        silent_s = self._engine.hub.broker.silent_s
        if silent_s == float("inf"):
            problems["redis"] = "nothing has arrived yet"
        elif silent_s > self._silence_s:
            problems["redis"] = f"nothing has arrived for {silent_s:.1f} s"
        is_late = time.monotonic() - self._asked_at >= DATABASE_TIMEOUT_S
        if self._asking is not None and is_late:
            problems["database"] = f"no answer within {DATABASE_TIMEOUT_S:g} s"
        elif self._database:
            problems["database"] = self._database
        if self._connections.is_draining:
            problems["process"] = "about to end"
        return problems

    async def _ask_database(self) -> str:
        try:
            await self._engine.orm.run(_reach_database)
        except Exception as error:
            # What it says may name hosts and users: that is for the log alone.
            self._engine.metrics.count("database_unavailable")
            if self._may_log(type(error).__name__):
                logger.error("the database does not answer", exc_info=error)
            return "does not answer"
        return ""

    def _answered(self, asking: asyncio.Task[str]) -> None:
        self._asking = None
        if not asking.cancelled():
            self._answered_at = time.monotonic()
            self._database = asking.result()

    def _close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


def _reach_database() -> None:
    """Raises what the database driver raises where it does not answer."""
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "unknown":
        return  # A site without a database.
    connection.ensure_connection()
    if not connection.is_usable():
        # The server was restarted meanwhile: what counts is whether it is back.
        connection.close()
        connection.ensure_connection()
        if not connection.is_usable():
            raise OperationalError("the database takes connections and answers nothing")
