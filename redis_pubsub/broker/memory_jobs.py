"""Queues of jobs inside one process: the same promises without Redis."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .. import wire
from ..exceptions import QueueFull
from ..messages import Draft, Message, Position, Times, new_header, queue_channel, queue_of
from ..options import WorkerOptions
from ..wire import Envelope
from .fencing import ID_TTL_S
from .jobs import DEAD, LATER, Added, DeadLetter, End, Haul, QueueState, Taken

_NONE = Times()


@dataclass
class _Job:
    entry: str
    message: Message
    expires_at: float
    sent_at: float
    attempts: int = 0
    deliveries: int = 0
    worker: str = ""
    heard_at: float = 0.0


@dataclass
class _Queue:
    jobs: dict[str, _Job] = field(default_factory=dict)
    later: list[tuple[float, _Job]] = field(default_factory=list)
    dead: dict[str, DeadLetter] = field(default_factory=dict)


class MemoryJobStore:
    """What Redis would hold.

    Args:
        lock: Of the store that this is part of.
        send: Hands a message to those who listen to a channel.
    """

    def __init__(self, lock: threading.Lock, send: Callable[[str, bytes], int]) -> None:
        self._lock = lock
        self._tell = send
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._queues: dict[str, _Queue] = {}
        self._ids: dict[str, float] = {}
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._numbers = itertools.count(1)

    def send(
        self, drafts: Sequence[Draft], bounds: WorkerOptions, envelope: Envelope, once: bool
    ) -> list[Added]:
        with self._lock:
            return [self.add(draft, bounds, envelope, once=once) for draft in drafts]

    def add(
        self, draft: Draft, bounds: WorkerOptions, envelope: Envelope, *, once: bool
    ) -> Added:
        """Put one job into its queue; under the lock."""
        name, now = queue_of(draft.channel) or "", time.time()
        key = f"{name}:{draft.header.id}"
        if once and self._ids.get(key, 0.0) > now:
            return False
        queue = self._queue(name)
        if len(queue.jobs) + len(queue.later) >= bounds.queue_jobs:
            return QueueFull(name, bounds.queue_jobs)
        times = draft.header.times or _NONE
        message = Message(draft.channel, draft.header, draft.raw, Position("", 0))
        entry = f"{int(now * 1000)}-{next(self._numbers)}"
        job = _Job(entry, message, times.expires_at, now)
        if times.due_at > now:
            queue.later.append((times.due_at, job))
        else:
            queue.jobs[job.entry] = job
        if once:
            self._ids[key] = now + ID_TTL_S
        self._wake(name, envelope)
        return True

    def take(self, queues: Sequence[str], worker: str, count: int, silent_s: float) -> Haul:
        with self._lock:
            now, expired = time.time(), 0
            taken: list[Taken] = []
            dues: list[float] = []
            for name in queues:
                queue = self._queue(name)
                self._join(queue, now)
                dues += [due for due, _ in queue.later]
                for job in list(queue.jobs.values()):
                    if len(taken) == count:
                        break
                    is_silent = silent_s and now - job.heard_at >= silent_s
                    if job.worker and not is_silent:
                        continue
                    if job.expires_at and job.expires_at <= now:
                        del queue.jobs[job.entry]
                        expired += 1
                        continue
                    job.worker, job.heard_at = worker, now
                    job.deliveries += 1
                    taken.append(
                        Taken(name, job.entry, job.message, job.attempts, job.deliveries)
                    )
            return Haul(taken, expired, max(0.0, min(dues) - now) if dues else None)

    def _join(self, queue: _Queue, now: float) -> None:
        """What is due by now joins the queue."""
        queue.later.sort(key=lambda each: each[0])
        while queue.later and queue.later[0][0] <= now:
            _, job = queue.later.pop(0)
            job.entry = f"{int(now * 1000)}-{next(self._numbers)}"
            job.worker, job.deliveries = "", 0
            queue.jobs[job.entry] = job

    def beat(self, worker: str, jobs: Sequence[Taken]) -> list[Taken]:
        with self._lock:
            lost = []
            for each in jobs:
                job = self._queue(each.queue).jobs.get(each.entry)
                if job is None or job.worker != worker:
                    lost.append(each)
                else:
                    job.heard_at = time.time()
            return lost

    def end(self, worker: str, taken: Taken, end: End, bounds: WorkerOptions) -> bool:
        with self._lock:
            queue, now = self._queue(taken.queue), time.time()
            job = queue.jobs.get(taken.entry)
            if job is None or job.worker != worker:
                return False
            del queue.jobs[taken.entry]
            if end.how == LATER:
                queue.later.append((now + end.delay_s, replace(job, attempts=end.attempts)))
            elif end.how == DEAD:
                message = job.message
                queue.dead[job.entry] = DeadLetter(
                    taken.queue,
                    job.entry,
                    message,
                    message.raw,
                    end.attempts,
                    end.error,
                    now,
                )
                while len(queue.dead) > bounds.dead_letters:
                    del queue.dead[next(iter(queue.dead))]
            return True

    def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]:
        with self._lock:
            return {name: self._state(self._queue(name)) for name in queues}

    def _state(self, queue: _Queue) -> QueueState:
        running = sum(1 for job in queue.jobs.values() if job.worker)
        oldest = min((job.sent_at for job in queue.jobs.values()), default=None)
        return QueueState(
            waiting=len(queue.jobs) - running,
            running=running,
            later=len(queue.later),
            dead=len(queue.dead),
            oldest_s=0.0 if oldest is None else max(0.0, time.time() - oldest),
        )

    def dead(self, name: str, limit: int, before: str) -> list[DeadLetter]:
        with self._lock:
            letters = list(reversed(self._queue(name).dead.values()))
        if before:
            letters = [each for each in letters if _order(each.entry) < _order(before)]
        return letters[:limit]

    def replay(
        self, name: str, entry: str, bounds: WorkerOptions, envelope: Envelope
    ) -> bool:
        with self._lock:
            queue = self._queue(name)
            letter = queue.dead.get(entry)
            if letter is None or letter.message is None:
                return False
            if len(queue.jobs) + len(queue.later) >= bounds.queue_jobs:
                raise QueueFull(name, bounds.queue_jobs)
            del queue.dead[entry]
            now = time.time()
            number = next(self._numbers)
            job = _Job(f"{int(now * 1000)}-{number}", letter.message, 0.0, now)
            queue.jobs[job.entry] = job
            self._wake(name, envelope)
            return True

    def delete(self, name: str, entry: str) -> bool:
        with self._lock:
            return self._queue(name).dead.pop(entry, None) is not None

    def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        with self._lock:
            self._kept[name] = (time.time() + ttl_s, value)

    def kept(self, name: str) -> bytes | None:
        with self._lock:
            expires_at, value = self._kept.get(name, (0.0, b""))
            return value if expires_at > time.time() else None

    def _queue(self, name: str) -> _Queue:
        return self._queues.setdefault(name, _Queue())

    def _wake(self, name: str, envelope: Envelope) -> None:
        channel = queue_channel(name)
        header = envelope.header(channel, new_header("job"), b"0")
        self._tell(channel, wire.frame(header, b"0"))


class BlockingMemoryJobs:
    """A `redis_pubsub.broker.jobs.BlockingJobs`."""

    def __init__(
        self, store: MemoryJobStore, bounds: WorkerOptions, envelope: Envelope
    ) -> None:
        self._store, self._bounds, self._envelope = store, bounds, envelope
        self.state, self.delete = store.state, store.delete
        self.keep, self.kept = store.keep, store.kept

    def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]:
        return self._store.send(drafts, self._bounds, self._envelope, once)

    def dead(self, queue: str, limit: int, before: str = "") -> list[DeadLetter]:
        return self._store.dead(queue, limit, before)

    def replay(self, queue: str, entry: str) -> bool:
        return self._store.replay(queue, entry, self._bounds, self._envelope)


class MemoryJobs:
    """A `redis_pubsub.broker.jobs.Jobs`; suspends in every call, as a network does."""

    def __init__(
        self, store: MemoryJobStore, bounds: WorkerOptions, envelope: Envelope
    ) -> None:
        self._store, self._bounds, self._envelope = store, bounds, envelope

    async def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]:
        await asyncio.sleep(0)
        return self._store.send(drafts, self._bounds, self._envelope, once)

    async def take(
        self, queues: Sequence[str], worker: str, count: int, *, silent_s: float = 0.0
    ) -> Haul:
        await asyncio.sleep(0)
        return self._store.take(queues, worker, count, silent_s)

    async def beat(self, worker: str, jobs: Sequence[Taken]) -> list[Taken]:
        await asyncio.sleep(0)
        return self._store.beat(worker, jobs)

    async def end(self, worker: str, job: Taken, end: End) -> bool:
        await asyncio.sleep(0)
        return self._store.end(worker, job, end, self._bounds)

    async def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]:
        await asyncio.sleep(0)
        return self._store.state(queues)

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        await asyncio.sleep(0)
        self._store.keep(name, value, ttl_s)

    async def kept(self, name: str) -> bytes | None:
        await asyncio.sleep(0)
        return self._store.kept(name)


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number)
