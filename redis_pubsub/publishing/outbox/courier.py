"""The thread that publishes what its process commits, so that those who save do not wait.

Saying that there is something takes a microsecond. The thread begins at once; while commits
go on it pauses between two rounds, so that one round publishes what many commits wrote and
the process's other threads have the interpreter most of the time. It comes with the first
commit, goes when nothing was committed for a while, and is started again if it died. What
it does not get done is the relay's.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

from django.db import connections

from ..publisher import publisher

logger = logging.getLogger("redis_pubsub.outbox")

IDLE_S = 30.0
"""Without a commit for so long, the thread gives its database connections back and ends."""
CHECK_S = 1.0
"""After so long without work the connections are looked at: poolers cut idle ones."""
PAUSE_S = 0.002
"""Least time between two rounds; an idle courier begins at once."""
LONGEST_PAUSE_S = 0.02
SHARE = 4
"""How many times as long as its last round the courier pauses, within the bounds above."""
FINISH_S = 5.0
"""How long the end of a process waits for what it committed."""

Place = tuple[str, int]
"""A database's alias and one of its partitions."""


class Courier:
    """One per process, by `wake` from any thread. Begins anew after a fork.

    Args:
        visit: Publishes a partition; must not raise.
    """

    def __init__(self, visit: Callable[[str, int], None]) -> None:
        self._visit = visit
        self.forked()
        os.register_at_fork(after_in_child=self.forked)
        atexit.register(self.finish)

    def forked(self) -> None:
        """Forget the parent's thread, and its work, which it does itself."""
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        # At most sixteen for each database, whatever is committed.
        self._places: dict[Place, None] = {}
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def wake(self, using: str, partitions: Iterable[int]) -> bool:
        """Have partitions published.

        Returns:
            ``False`` if the process ends, or gives no thread: the caller has to.
        """
        with self._changed:
            if self._is_closing:
                return False
            for partition in partitions:
                self._places[using, partition] = None
            if self._thread is not None and self._thread.is_alive():
                self._changed.notify()
                return True
            if self._thread is not None:
                publisher.metrics.count("outbox_courier_died")
                logger.error("the outbox's thread has died; starting another")
            return self._start()

    def _start(self) -> bool:
        thread = threading.Thread(
            target=self._run, name="redis-pubsub-courier", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # No more threads for this process, or it ends.
            self._places.clear()
            return False
        self._thread = thread
        return True

    def finish(self, longest_s: float | None = None) -> bool:
        """Publish what was committed, and end; later commits see to themselves.

        Args:
            longest_s: How long to wait, by default `FINISH_S`.

        Returns:
            Whether it was done in time; the rest is in the table.
        """
        with self._changed:
            self._is_closing = True
            thread = self._thread
            self._changed.notify()
        self._hurry.set()
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(FINISH_S if longest_s is None else longest_s)
        return not thread.is_alive()

    def _run(self) -> None:
        try:
            ended = time.monotonic()
            while places := self._next():
                began = time.monotonic()
                _look_after_connections(began - ended > CHECK_S)
                for using, partition in places:
                    self._visit(using, partition)
                ended = time.monotonic()
                took_s = ended - began
                self._hurry.wait(min(LONGEST_PAUSE_S, max(PAUSE_S, SHARE * took_s)))
        finally:
            connections.close_all()

    def _next(self) -> list[Place]:
        """The partitions of the commits since it was last asked; none to end."""
        with self._changed:
            if not self._places and not self._is_closing:
                self._changed.wait(IDLE_S)
            places, self._places = [*self._places], {}
            if not places:
                # Under the lock: whoever comes now finds no thread, and starts one.
                self._thread = None
            return places


def _look_after_connections(was_idle: bool) -> None:
    """Close this thread's connections that failed, or were cut while nobody used them."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and (
            connection.errors_occurred or (was_idle and not connection.is_usable())
        ):
            connection.close()
