"""The one blocking publisher of a process, for threads: views, signals, commands."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from ..broker import BlockingBroker, open_blocking
from ..conf import Config, get_config
from ..exceptions import BrokerUnavailable, QueueFull
from ..messages import Draft, Position, queue_of
from ..metrics import Metrics
from .under_test import is_under_test

logger = logging.getLogger("redis_pubsub.publishing")

CHUNK = 1_000
"""Messages in one round trip."""
_SLOW_S = 0.5
_HOLD_OFF_S = 1.0


class Publisher:
    """Opened at first use, opened anew after a fork and when the settings change.

    After a failure that took long (Redis hangs), further messages fail at once for a
    second, so that a request with many saves waits once and not for each.
    """

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._lock = threading.Lock()
        self._broker: BlockingBroker | None = None
        self._config: Config | None = None
        self._held_off_until = 0.0
        self._is_ending = False
        self._divert: Callable[[Sequence[Draft]], None] | None = None

    def send(
        self, drafts: Sequence[Draft], *, strict: bool = False
    ) -> Sequence[Position | None]:
        """Send messages in order; a failure is logged and counted.

        Raises:
            BrokerUnavailable: With ``strict``, instead of logging.
        """
        if self._divert is not None:
            self._divert(drafts)
            return [Position("", 0)] * len(drafts)
        positions: list[Position | None] = []
        began = time.monotonic()
        try:
            if self.is_held_off:
                raise BrokerUnavailable("Redis hung a moment ago; not tried again yet")
            broker = self.broker()
            for begin in range(0, len(drafts), CHUNK):
                positions += broker.publish(drafts[begin : begin + CHUNK])
            self.metrics.count("published", len(drafts))
        except Exception as error:
            # Whatever it is, it must not break the write that was just committed.
            self._took(began)
            if strict:
                raise
            unsent = drafts[len(positions) :]
            self.failed(unsent, error)
            positions += [None] * len(unsent)
        return positions

    def post(self, drafts: Sequence[Draft]) -> None:
        """`send`, without waiting for what comes of it: in the order of the calls of all
        threads, and logged and counted in the same way when it is known.

        In tests, and at the end of a process, it is `send`.
        """
        if self._divert is not None or self._is_ending or is_under_test():
            self.send(drafts)
            return
        for begin in range(0, len(drafts), CHUNK):
            some = drafts[begin : begin + CHUNK]
            settled = partial(self._settled, some, time.monotonic())
            try:
                if self.is_held_off:
                    raise BrokerUnavailable("Redis hung a moment ago; not tried again yet")
                self.broker().post(some, settled)
            except Exception as error:
                settled(error)

    def _settled(
        self, drafts: Sequence[Draft], began: float, error: Exception | None
    ) -> None:
        if error is None:
            self.metrics.count("published", len(drafts))
        else:
            self._took(began)
            self.failed(drafts, error)

    def settle(self) -> None:
        """Wait until Redis has answered everything that was posted, or failed."""
        broker = self._broker
        if broker is not None and not broker.is_settled:
            # Whoever posted it is told.
            with contextlib.suppress(BrokerUnavailable):
                broker.settle()

    async def asettle(self) -> None:
        """`settle` for coroutines."""
        broker = self._broker
        if broker is not None and not broker.is_settled:
            await asyncio.to_thread(self.settle)

    def finish(self) -> None:
        """The process ends: settle, and post nothing more."""
        self._is_ending = True
        self.settle()

    def _finish_in_child(self) -> None:
        """A child of ``multiprocessing`` ends without what `atexit` was told."""
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self.finish, exitpriority=-1)

    def send_jobs(self, drafts: Sequence[Draft], *, strict: bool = False) -> None:
        """Put jobs into their queues; a failure is logged and counted.

        Raises:
            QueueFull: With ``strict``, and one of them found no room.
            BrokerUnavailable: With ``strict``.
        """
        if self._divert is not None:
            self._divert(drafts)
            return
        began = time.monotonic()
        try:
            if self.is_held_off:
                raise BrokerUnavailable("Redis hung a moment ago; not tried again yet")
            outcomes = self.broker().jobs.send(drafts)
        except Exception as error:
            self._took(began)
            if strict:
                raise
            self.jobs_failed(drafts, error)
            return
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, QueueFull):
                self.metrics.count("queue_full")
                if strict:
                    raise outcome
                self.jobs_failed([draft], outcome)
            else:
                self.metrics.count("jobs_sent")

    def jobs_failed(self, drafts: Sequence[Draft], error: Exception) -> None:
        """Note that jobs were not sent."""
        self.metrics.count("jobs_not_sent", len(drafts))
        logger.error(
            "%d job(s) not sent, the first for %r",
            len(drafts),
            queue_of(drafts[0].channel),
            exc_info=error,
        )

    @property
    def is_held_off(self) -> bool:
        """Whether Redis failed a moment ago."""
        return time.monotonic() < self._held_off_until

    def _took(self, began: float) -> None:
        """A failure that took long is not repeated at once."""
        if time.monotonic() - began > _SLOW_S:
            self.hold_off()

    def hold_off(self) -> None:
        """Leave Redis alone for a second."""
        self._held_off_until = time.monotonic() + _HOLD_OFF_S

    @property
    def is_diverted(self) -> bool:
        """Whether a test takes the messages."""
        return self._divert is not None

    @contextmanager
    def diverted(self, to: Callable[[Sequence[Draft]], None]) -> Iterator[None]:
        """Hand messages to a function instead of the broker: for tests."""
        before, self._divert = self._divert, to
        try:
            yield
        finally:
            self._divert = before

    def failed(self, drafts: Sequence[Draft], error: Exception) -> None:
        """Note that messages were not sent."""
        self.metrics.count("publish_failed", len(drafts))
        logger.error(
            "%d message(s) not published, the first on %r",
            len(drafts),
            drafts[0].channel,
            exc_info=error,
        )

    def broker(self) -> BlockingBroker:
        """The broker of the active settings."""
        config = get_config()
        if self._broker is None or self._config is not config:
            with self._lock:
                if self._broker is None or self._config is not config:
                    if self._broker is not None:
                        self._broker.close()
                    self._broker = open_blocking(config.broker_options(), self.metrics)
                    self._finish_in_child()
                    self._config = config
                    self._held_off_until = 0.0
        return self._broker

    def close(self) -> None:
        """Give the connections back; the next message opens new ones."""
        with self._lock:
            if self._broker is not None:
                self._broker.close()
                self._broker = None
            self._held_off_until = 0.0

    def forked(self) -> None:
        """Begin anew in a child process, where a lock may be held by nobody."""
        self._lock = threading.Lock()
        self._broker = None


publisher = Publisher()
os.register_at_fork(after_in_child=publisher.forked)
atexit.register(publisher.finish)
