"""Queues of jobs: what every broker promises of them, and the values it speaks in.

A job is a message that one worker gets, and not all who listen. It is in its queue until
the worker says that it is done; where a worker falls silent, another gets its jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..exceptions import QueueFull
from ..messages import Draft, Message

DONE, LATER, DEAD = "done", "later", "dead"

ADDED, WAS_THERE = True, False
Added = bool | QueueFull
"""What became of a job that was sent: `ADDED`, `WAS_THERE`, or an error."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A job as a worker got it.

    Attributes:
        queue: Its queue.
        entry: What the broker calls it.
        message: The job; ``None`` if it cannot be read, or its signature is wrong.
        attempts: How often it was tried and failed.
        deliveries: How often it was given to a worker in this attempt: above 1, workers
            died of it or were cut off.
    """

    queue: str
    entry: str
    message: Message | None
    attempts: int = 0
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Haul:
    """What a look into the queues brought.

    Attributes:
        jobs: At most as many as were asked for.
        expired: How many were too old, and were dropped.
        next_due_s: Until a job is due later; ``None`` if none is.
    """

    jobs: Sequence[Taken]
    expired: int = 0
    next_due_s: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended.

    Attributes:
        how: `DONE`, `LATER` (again, after ``delay_s``) or `DEAD`.
        attempts: How often it has failed by now.
        delay_s: Until it may be taken again.
        error: Why, with its traceback.
    """

    how: str = DONE
    attempts: int = 0
    delay_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that failed for good.

    Attributes:
        queue: Where.
        entry: What the broker calls it.
        message: The job; ``None`` if it cannot be read.
        raw: Its payload as it stands there.
        attempts: How often it was tried.
        error: Why, with its traceback.
        died_at: Unix time in seconds.
    """

    queue: str
    entry: str
    message: Message | None
    raw: bytes
    attempts: int
    error: str
    died_at: float


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue at a moment.

    Attributes:
        waiting: Jobs that may be taken.
        running: Jobs that workers have.
        later: Jobs that are not due yet.
        dead: Dead letters.
        oldest_s: Age of the oldest job that is not done, those that are due later not
            counted.
    """

    waiting: int = 0
    running: int = 0
    later: int = 0
    dead: int = 0
    oldest_s: float = 0.0


class BlockingJobs(Protocol):
    """The synchronous side."""

    def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]:
        """Put jobs into their queues, in one round trip.

        Args:
            drafts: On channels from `redis_pubsub.messages.queue_channel`.
            once: Somebody else may send the same: only the first within 300 s counts.

        Raises:
            BrokerUnavailable: Any of them may not be there.
        """

    def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]:
        """How queues are, in one round trip.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """

    def dead(self, queue: str, limit: int, before: str = "") -> list[DeadLetter]:
        """A queue's dead letters, newest first.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """

    def replay(self, queue: str, entry: str) -> bool:
        """Put a dead letter back into its queue; whether it was there.

        Raises:
            QueueFull: There is no room; it stays a dead letter.
            BrokerUnavailable: Redis did not answer.
        """

    def delete(self, queue: str, entry: str) -> bool:
        """Forget a dead letter; whether it was there.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """

    def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep a value under a name for a while, e.g. a job's result.

        Raises:
            BrokerUnavailable: It may not be kept.
        """

    def kept(self, name: str) -> bytes | None:
        """What is kept under a name.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """


class Jobs(Protocol):
    """The asynchronous side; see `BlockingJobs` for what has the same name."""

    async def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]: ...

    async def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]: ...

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None: ...

    async def kept(self, name: str) -> bytes | None: ...

    async def take(
        self, queues: Sequence[str], worker: str, count: int, *, silent_s: float = 0.0
    ) -> Haul:
        """Get jobs.

        Args:
            queues: From which, the first first.
            worker: Who asks; unique.
            count: How many at most.
            silent_s: Take over jobs whose worker was silent for so long; 0 takes over none.

        Raises:
            BrokerUnavailable: Redis did not answer; it may have given jobs all the same,
                which are taken over when this worker says nothing of them.
        """

    async def beat(self, worker: str, jobs: Sequence[Taken]) -> list[Taken]:
        """Say that a worker still works on its jobs.

        Returns:
            Those that are not his any more.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """

    async def end(self, worker: str, job: Taken, end: End) -> bool:
        """A job has ended; whether it was still this worker's.

        Raises:
            BrokerUnavailable: Redis did not answer; may be said again.
        """
