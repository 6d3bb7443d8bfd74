"""How many pieces of work should run at once, where threads share one lock.

Under Python's global lock more threads compute no more: they only take the lock from
each other, and work that lets go of it for a moment (a query, a file) waits for all the
others before it goes on. Threads that wait for something else are another matter: the
more of them, the better. What tells the two apart is how busy the process is.

Knows no threads and starts none; Linux and others tell the clocks read here.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass

LOOK_S = 0.01
"""How often to look, while two or more pieces of work are there."""
_IDLE_SHARE = 0.85
"""Of one core: below it, there is time for one more."""
_QUITE_IDLE_SHARE = 0.5
"""Of one core: below it, no second look is needed."""
_BUSY_SHARE = 0.95
"""Of one core: above it, one fewer would do the same."""
_PARALLEL_SHARE = 1.3
"""Of one core, in threads alone: above it they compute outside of the lock."""
_LOOKS_PER_STEP = 4
_LOOKS_PER_TRIAL = 100
"""A busy pool tries one more so often: perhaps it computes outside of the lock."""
_ASLEEP_SHARE = 0.1
"""A thread that uses less of a core than this waits for something."""
_LONG_S = 0.1
"""What takes longer does not keep others waiting, even where it computes."""


def threads_share_a_lock() -> bool:
    """Whether to limit at all: there is a lock, and the system counts each thread's CPU."""
    is_locked: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return is_locked and hasattr(time, "pthread_getcpuclockid")


@dataclass(frozen=True, slots=True)
class Window:
    """What happened since the last look, in seconds.

    Attributes:
        wall_s: How long it was.
        process_s: CPU of all threads.
        loop_s: CPU of the event loop's thread, which is part of it.
        queued_s: How long threads with work were ready but had no core to run on. On a
            machine with other things to do, this is no spare time.
    """

    wall_s: float
    process_s: float
    loop_s: float
    queued_s: float


class Pace:
    """How many pieces of work may run at once.

    Args:
        most: The greatest limit.
        is_limited: Whether less than the most makes sense.

    Attributes:
        limit: At this moment.
    """

    def __init__(self, most: int, *, is_limited: bool) -> None:
        self._most = most
        self._idle_looks = self._busy_looks = self._trial_looks = 0
        self.limit = 1 if is_limited else most

    def adapt(self, window: Window, *, has_waiting: bool) -> None:
        """Set the limit by what happened; ``has_waiting`` where one more would run."""
        busy = (window.process_s + window.queued_s) / window.wall_s
        is_parallel = window.process_s - window.loop_s > _PARALLEL_SHARE * window.wall_s
        if busy < _IDLE_SHARE or is_parallel:
            self._busy_looks = 0
            self._idle_looks += 1
            if has_waiting and (busy < _QUITE_IDLE_SHARE or self._idle_looks > 1):
                # Quick: what waits may be what the others wait for.
                self.limit = min(self._most, 2 * self.limit)
        elif busy > _BUSY_SHARE:
            self._idle_looks = 0
            self._busy_looks += 1
            self._trial_looks += 1
            if self._trial_looks >= _LOOKS_PER_TRIAL:
                self._trial_looks = 0
                self.limit = min(self._most, self.limit + 1)
            elif self._busy_looks >= _LOOKS_PER_STEP:
                self._busy_looks = 0
                self.limit = max(1, self.limit - 1)


class Meter:
    """What one thread has used; made in that thread."""

    def __init__(self) -> None:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._used_s = self._queued_s = 0.0
        self._file = -1
        try:
            path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.read()
        except (OSError, LookupError, ValueError):
            # Linux only, and not every one keeps such accounts.
            self.close()

    def read(self) -> tuple[float, float]:
        """CPU since the last call, and time spent ready but without a core."""
        before = self._used_s, self._queued_s
        self._used_s = time.clock_gettime(self._clock)
        if self._file >= 0:
            self._queued_s = int(os.pread(self._file, 80, 0).split()[1]) / 1e9
        return self._used_s - before[0], self._queued_s - before[1]

    def close(self) -> None:
        """Not to be read any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_slow(window: Window, *, used_s: float, queued_s: float, age_s: float) -> bool:
    """Whether a piece of work waits for something, or just takes long."""
    is_asleep = used_s + queued_s < _ASLEEP_SHARE * window.wall_s
    return age_s > _LONG_S or (is_asleep and age_s >= window.wall_s)
