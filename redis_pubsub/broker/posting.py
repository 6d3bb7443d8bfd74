"""Messages of commit hooks: written by the thread that commits, answered later.

Nobody looks at what a commit hook's message came to, and waiting for Redis would only make
the save take longer. So the answers are read before the next write, if they are there, and
every few milliseconds by a thread that is awake only while some are missing.

There is one connection for all threads: on two a later message could overtake one that is
still under way. For the same reason whoever wants anything else of Redis settles first.

At most `MOST` messages are unanswered. Beyond that, and when an answer is late, whoever
comes waits, for no longer than for any other command.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence

import redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from ..exceptions import BrokerUnavailable
from ..metrics import Metrics
from .base import Settled
from .commands import Command
from .line import Line
from .replication import Replication

logger = logging.getLogger("redis_pubsub.broker")

MOST = 256
"""Unanswered messages."""
MOST_BYTES = 1_048_576
"""What they may take on the wire."""
READ_S = 0.02
"""How often the thread looks for answers."""
LINGER_S = 1.0
"""How long it goes on after the last message, since waking it costs a save more."""
IDLE_S = 30.0
"""How long it then sleeps before it ends."""


class Posting:
    """One per process, for all threads; begins anew after a fork.

    Args:
        pool: Makes the connection.
        replication: Which server it leads to.
        timeout_s: How long an answer may take, and a thread may wait for its turn.
        metrics: Counts deaths of the thread.
        moves: As of `Line`.
    """

    def __init__(
        self,
        pool: redis.ConnectionPool,
        replication: Replication,
        timeout_s: float,
        metrics: Metrics,
        *,
        moves: bool,
    ) -> None:
        self._pool = pool
        self._replication = replication
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._moves = moves
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._line = Line(self._pool, self._replication, self._timeout_s, moves=self._moves)
        self._turn = _Turn(self._line, self._timeout_s)
        # One thread tells, without the lock: a handler of the log may publish.
        self._telling = threading.RLock()
        self._tellers = 0
        self._thread: threading.Thread | None = None
        self._is_awake = False
        self._awake = threading.Event()
        self._watched_until = 0.0
        self._is_closed = False

    @property
    def is_settled(self) -> bool:
        """Whether everything is answered, and whoever posted it was told."""
        if self._pid != os.getpid():
            # In a child of a fork: what the parent wrote, the parent reads.
            self._begin()
        return self._line.is_answered and not self._line.told and not self._tellers

    def post(self, commands: Sequence[Command], settled: Settled) -> None:
        """Write messages behind all that were posted before.

        Raises:
            BrokerUnavailable: They may not have been sent; ``settled`` will not be called.
        """
        if self._pid != os.getpid():
            self._begin()
        try:
            with self._turn:
                self._line.write(commands, settled)
                if not self._watch() or self._line.is_over(MOST, MOST_BYTES):
                    # These are under way: what becomes of them is told, not raised.
                    with contextlib.suppress(TimeoutError):
                        self._line.read_all()
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        finally:
            if self._line.told:
                self._tell()

    def settle(self) -> None:
        """Wait until everything is answered, and whoever posted it was told.

        Raises:
            BrokerUnavailable: Redis hangs; they were told that.
        """
        if self.is_settled:
            return
        try:
            with self._turn:
                self._line.read_all()
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        finally:
            self._tell()
            # Another thread may be at it.
            if self._telling.acquire(timeout=self._timeout_s):
                self._telling.release()

    def close(self) -> None:
        """Settle, and end connection and thread."""
        with contextlib.suppress(BrokerUnavailable):
            self.settle()
        with self._turn.lock:
            self._line.lose(ConnectionError("closed"))
            self._is_closed = True
        self._awake.set()
        self._tell()

    def _tell(self) -> None:
        """Say what became of messages; what is left is another thread's that is at it."""
        told = self._line.told
        while told and self._telling.acquire(blocking=False):
            self._tellers += 1
            try:
                while told:
                    settled, error = told.popleft()
                    try:
                        settled(error)
                    except Exception:
                        # It may be another thread's, and others are still to be told.
                        logger.exception("a message's outcome could not be noted")
            finally:
                self._tellers -= 1
                self._telling.release()

    # -- the thread ------------------------------------------------------------------------

    def _watch(self) -> bool:
        """With the lock: have answers read, as long as any is missing.

        Returns:
            ``False`` if the process gives no thread, or the end has come.
        """
        if self._is_closed:
            return False
        self._watched_until = time.monotonic() + LINGER_S
        if self._thread is not None and self._thread.is_alive():
            if not self._is_awake:
                self._is_awake = True
                self._awake.set()
            return True
        if self._thread is not None:
            self._metrics.count("answers_thread_died")
            logger.error("the thread that reads Redis' answers has died; starting another")
        thread = threading.Thread(
            target=self._run, name="redis-pubsub-answers", daemon=True
        )
        self._is_awake = True
        self._awake.set()
        try:
            thread.start()
        except RuntimeError:
            # No more threads for this process, or it ends.
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            self._awake.wait(IDLE_S)
            with self._turn.lock:
                if not self._is_awake or self._is_closed:
                    # Under the lock: whoever comes now finds no thread, and starts one.
                    self._thread = None
                    return
                self._awake.clear()
            while self._is_awake:
                time.sleep(READ_S)
                self._read()

    def _read(self) -> None:
        with self._turn.lock:
            try:
                self._line.read_there()
            except Exception as error:
                # Nothing would read the rest: it is lost, and said to be.
                logger.exception("Redis' answers cannot be read")
                self._line.lose(error)
            lingers = time.monotonic() < self._watched_until
            is_needed = lingers or not self._line.is_answered
            self._is_awake = is_needed and not self._is_closed
        self._tell()


class _Turn:
    """The line, for one thread at a time, in bounded time: if Redis fails the thread in
    front, it fails those who wait behind it, and not one after the other."""

    def __init__(self, line: Line, timeout_s: float) -> None:
        self.lock = threading.Lock()
        self._line = line
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        if self.lock.acquire(blocking=False):
            return
        failures = self._line.failures
        if not self.lock.acquire(timeout=self._timeout_s):
            raise TimeoutError("other threads wait for its answers")
        if self._line.failures != failures:
            self.lock.release()
            raise ConnectionError("it has just failed another thread")

    def __exit__(self, *_: object) -> None:
        self.lock.release()
