"""The numbers of all workers, whichever of them is asked."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from ...engine import Engine
from ...metrics import Occasionally
from .directory import SILENT_S, Directory, shared_path, sweep
from .numbers import Numbers, Reading, joined, numbers_of

logger = logging.getLogger("redis_pubsub.health")

PERIOD_S = 1.0
"""How old what a worker shows of the others may be."""
_CLOSE_S = 5.0


class Workers:
    """Leaves one engine's numbers for the other workers, and reads theirs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._directory: Directory | None = None
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._may_log = Occasionally()

    @property
    def is_alone(self) -> bool:
        """Whether this is the only process of its server."""
        return self._task is None

    def start(self) -> None:
        """Begin to leave numbers, if there may be other workers; ends with the engine."""
        path = shared_path()
        if path is not None and self._task is None:
            self._task = asyncio.create_task(
                self._report(path), name="redis-pubsub-numbers"
            )
            self._engine.closing.push_async_callback(self._close)

    async def numbers(self) -> Numbers:
        """Of all workers."""
        others = await asyncio.to_thread(self._directory.others) if self._directory else []
        living = [each for each in others if each.numbers.gauges]
        silent = [each for each in living if each.at < time.time() - SILENT_S]
        shown = [
            Numbers(each.numbers.counters) if each in silent else each.numbers
            for each in others
        ]
        about = Numbers(
            gauges=(
                Reading("workers", "Processes that live", len(living) + 1, "sum"),
                Reading(
                    "workers_silent",
                    f"Of them, those that have shown nothing for {SILENT_S:g} s",
                    len(silent),
                    "sum",
                ),
            )
        )
        return joined([numbers_of(self._engine), *shown, about])

    async def _report(self, path: Path) -> None:
        while not self._stopped.is_set():
            try:
                if self._directory is None:
                    await asyncio.to_thread(sweep)
                    self._directory = await asyncio.to_thread(
                        Directory, path, self._engine.node
                    )
                await asyncio.to_thread(self._directory.leave, numbers_of(self._engine))
            except Exception as error:
                if isinstance(error, FileNotFoundError) and self._directory is not None:
                    # The last worker before this one has just tidied up: begin anew.
                    self._directory.abandon()
                    self._directory = None
                    continue
                self._engine.metrics.count("metrics_errors")
                if self._may_log("report"):
                    logger.exception("numbers could not be left in %s; trying again", path)
            try:
                await asyncio.wait_for(self._stopped.wait(), PERIOD_S)
            except TimeoutError:
                pass

    async def _close(self) -> None:
        self._stopped.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSE_S)
        if self._directory is not None:
            last = Numbers(numbers_of(self._engine).counters)
            await asyncio.to_thread(self._leave_last, self._directory, last)
            self._directory = None

    def _leave_last(self, directory: Directory, numbers: Numbers) -> None:
        try:
            directory.leave(numbers)
            directory.close()
        except OSError:
            logger.exception("the last numbers could not be left")
