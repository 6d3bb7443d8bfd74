"""Notices an event loop that stands still, and says where.

One blocking call in one callback stops every socket of the process, and nothing in the
loop can tell: so a thread looks at a clock that the loop has to wind.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from .metrics import Metrics

logger = logging.getLogger("redis_pubsub.engine")

_LOOKS_PER_LIMIT = 4
_FRAMES = 40
_OURS = str(Path(__file__).parent)
_NOT_THE_USERS = (
    _OURS,
    *{
        sysconfig.get_paths()[name]
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    },
    "<",
)


class LoopWatchdog:
    """Watches the running loop from a thread of its own.

    Costs a timer and a look at a clock four times per ``limit_s``.

    Args:
        limit_s: How long the loop may stand still.
        metrics: Where blockages are counted.

    Attributes:
        lag_s: How late the last timer of the loop came.
    """

    def __init__(self, limit_s: float, metrics: Metrics) -> None:
        self._limit_s = limit_s
        self._period_s = limit_s / _LOOKS_PER_LIMIT
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._wound_at = 0.0
        self._is_blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.lag_s = 0.0

    def start(self) -> None:
        """Begin; call on the loop, after any fork."""
        self._wound_at = time.monotonic()
        self._timer = self._loop.call_later(self._period_s, self._wind)
        self._thread = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(),),
            name="redis-pubsub-watchdog",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """End; the thread is not waited for, and is gone in a moment."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    def _wind(self) -> None:
        now = time.monotonic()
        since_s = now - self._wound_at
        self.lag_s = max(0.0, since_s - self._period_s)
        self._wound_at = now
        if self._is_blocked:
            self._is_blocked = False
            logger.warning("the event loop goes on after %.1f s", since_s)
        self._timer = self._loop.call_later(self._period_s, self._wind)

    # -- in the thread -----------------------------------------------------------

    def _watch(self, loop_thread: int) -> None:
        before = time.monotonic(), time.process_time()
        while not self._stopped.wait(self._period_s):
            now = time.monotonic(), time.process_time()
            slept_s, worked_s = now[0] - before[0], now[1] - before[1]
            before = now
            # Late and without having worked: the whole process was stopped, not the loop.
            if slept_s > 2 * self._period_s and worked_s < slept_s / 2:
                continue
            if now[0] - self._wound_at > self._limit_s + self._period_s:
                self._found_blocked(loop_thread)

    def _found_blocked(self, loop_thread: int) -> None:
        if self._is_blocked:
            return
        frame = sys._current_frames().get(loop_thread)
        if frame is None:
            return
        self._is_blocked = True
        logger.error(
            "the event loop has been blocked for more than %g s in %s; every socket of "
            "this process waits. Await something, or use asyncio.to_thread. The stack:\n%s",
            self._limit_s,
            _place(frame),
            "".join(traceback.format_stack(frame, limit=_FRAMES)),
        )
        self._metrics.count("loop_blocked")


def _place(frame: FrameType) -> str:
    """The innermost line that is the site's own, else the innermost of all."""
    inner: FrameType | None = frame
    while inner is not None:
        code = inner.f_code
        if not code.co_filename.startswith(_NOT_THE_USERS):
            return f"{code.co_qualname} ({code.co_filename}:{inner.f_lineno})"
        inner = inner.f_back
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
