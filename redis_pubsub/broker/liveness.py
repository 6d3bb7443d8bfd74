"""Is the pub/sub connection alive? Sans-IO: told what happens, says what to do.

A connection on which nothing arrives may be quiet or dead: a stopped server, a stalled
network and a server that was left behind by a failover look the same from here, and TCP
tells none of them apart for minutes. So after a silence a message is published to
ourselves; if it does not come back, the connection is dead.

How long to wait for it? What Redis says on one connection arrives in the order in which it
was said. So once Redis has taken the probe, something is asked of it on the pub/sub
connection itself: if that answer is there and the probe is not, the probe went to another
server than the one we listen to. Only a server that answers nothing is waited for.
Who publishes and aborts: ``watch``. Contract: docs/howto/monitoring.rst.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass

SILENT_INTERVALS = 2.5
"""After a silence of so many intervals nobody should rely on the connection."""
_BACKOFF_MOST = 10
_JITTER = 0.25


class Act(enum.Enum):
    """What to do now."""

    WAIT = "wait"
    PROBE = "probe"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and when to ask again.

    Attributes:
        act: What to do.
        wait_s: Then ask again after so long.
        is_down: Of an abort: the probe could not even be published.
    """

    act: Act
    wait_s: float
    is_down: bool = False


class Liveness:
    """The clocks of one broker's pub/sub connection, over all its reconnects.

    Args:
        interval_s: Silence after which a probe is sent (less up to a quarter, so that
            processes do not probe in step), and how long its echo may take.
        chance: A number from 0 to 1.

    Attributes:
        heard_at: When anything arrived last; minus infinity before it did.
        proved_at: When a message did.
        probe: Number of the probe that is out.
    """

    def __init__(
        self, interval_s: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._interval_s = interval_s
        self._chance = chance
        self.heard_at = float("-inf")
        self.proved_at = float("-inf")
        self._quiet_since = 0.0
        self._probed_at: float | None = None
        self.probe = 0
        self._is_published = self._is_refused = self._is_passed_by = False
        self._due_after_s = self._jittered()
        self._expected_at: float | None = None
        # Aborts that helped nothing so far, and the earliest time of the next one.
        self._failures = 0
        self._no_abort_before = float("-inf")

    def began(self, now: float) -> None:
        """A connection is new, or is read again after a pause of our own."""
        self._quiet_since = now
        self._probed_at = self._expected_at = None
        self._is_passed_by = False

    def heard(self, now: float) -> None:
        """An answer arrived: the connection lives, and so a probe may take longer. That
        messages come through is not said by that."""
        self.heard_at = now
        if self._probed_at is None:
            return
        if self._is_refused:
            self.began(now)
        else:
            self._probed_at = now

    def proved(self, now: float) -> None:
        """A message arrived: what is published comes through."""
        self.heard_at = self.proved_at = now
        self.began(now)
        self._failures = 0
        self._no_abort_before = float("-inf")

    def published(self, probe: int) -> None:
        """Redis took a probe. What is asked on the pub/sub connection from now on is
        answered after the echo."""
        self._is_published = self._is_published or probe == self.probe

    def refused(self, probe: int) -> None:
        """A probe could not be published."""
        self._is_refused = self._is_refused or probe == self.probe

    def passed_by(self) -> None:
        """What was asked after the last probe was taken has been answered."""
        if self._probed_at is not None and self._is_published:
            self._is_passed_by = True

    def step(self, now: float) -> Step:
        """Look at the clocks."""
        self._forgive_sleep(now)
        if self._probed_at is None:
            due_at = self._quiet_since + self._due_after_s
            return self._wait(now, due_at) if now < due_at else self._probe(now)
        deadline = self._probed_at + self._interval_s
        if now < deadline and not self._is_passed_by:
            return self._wait(now, deadline)
        if now < self._no_abort_before:
            return self._probe_later(now) if self._is_passed_by else self._probe(now)
        self._failures += 1
        factor = min(_BACKOFF_MOST, 2**self._failures)
        self._no_abort_before = now + factor * self._interval_s
        self.began(now)
        return Step(Act.ABORT, self._interval_s, is_down=not self._is_published)

    def _probe(self, now: float) -> Step:
        self._probed_at = now
        self.probe += 1
        self._is_published = self._is_refused = self._is_passed_by = False
        self._due_after_s = self._jittered()
        self._expected_at = now + self._interval_s
        return Step(Act.PROBE, self._interval_s)

    def _probe_later(self, now: float) -> Step:
        self.began(now)
        return self._wait(now, now + self._due_after_s)

    def _wait(self, now: float, until: float) -> Step:
        self._expected_at = until
        return Step(Act.WAIT, until - now)

    def _forgive_sleep(self, now: float) -> None:
        """Who is asked late has slept: the process stood still, and not Redis.

        What came meanwhile may not have been read yet, so a probe's time begins anew.
        """
        if self._expected_at is None or self._probed_at is None:
            return
        if now - self._expected_at > self._interval_s / 4:
            self._probed_at = now

    def _jittered(self) -> float:
        return self._interval_s * (1 - _JITTER * self._chance())
