"""Redis commands for queues of jobs, and their replies, without a connection.

All queues of a prefix live in one cluster slot, so that a worker looks into all of his in
one step: ``<prefix>:{%00queues}:<queue>:jobs`` a stream with one consumer group,
``…:later`` a sorted set by the moment they are due, ``…:dead`` a stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from .. import wire
from ..exceptions import MalformedMessage, QueueFull
from ..messages import (
    Draft,
    Message,
    Position,
    Times,
    new_header,
    queue_channel,
    queue_of,
    reserved_channel,
)
from ..metrics import Metrics
from ..options import BrokerOptions
from .commands import Command
from .fencing import ID_TTL_S
from .jobs import Added, DeadLetter, End, Haul, QueueState, Taken
from .keys import channel_key, escape
from .scripts import JOB_BEAT, JOB_END, JOB_REPLAY, JOB_SEND, JOB_TAKE, Script

GROUP = "workers"
_SLOT = reserved_channel("queues")
_DUE_AT_ONCE = 100
_FULL = re.compile(r"QUEUEFULL (\d+) (.*)", re.DOTALL)
_NONE = Times()


class JobCommands:
    """Builds commands for one prefix and reads their replies.

    Args:
        options: Prefix, key and bounds.
        metrics: Counts what could not be parsed.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._prefix = options.prefix
        self._bounds = options.workers
        self._metrics = metrics
        self._envelope = wire.Envelope(options.envelope_key)

    def _key(self, queue: str, part: str) -> bytes:
        return channel_key(self._prefix, _SLOT, f"{escape(queue)}:{part}")

    def _wake(self, queue: str) -> tuple[bytes, bytes]:
        """Where workers listen, and what they hear."""
        channel = queue_channel(queue)
        header = self._envelope.header(channel, new_header("job"), b"0")
        return channel_key(self._prefix, channel, "live"), wire.frame(header, b"0")

    def send(self, draft: Draft, *, once: bool) -> Command:
        queue = queue_of(draft.channel)
        assert queue is not None, "jobs are sent to queues"
        keys = [self._key(queue, "jobs"), self._key(queue, "later")]
        if once:
            keys.append(self._key(queue, f"id:{draft.header.id}"))
        times = draft.header.times or _NONE
        return (
            *("EVALSHA", JOB_SEND.sha, len(keys), *keys),
            self._envelope.header(draft.channel, draft.header, draft.raw),
            draft.raw,
            round(times.due_at * 1000),
            round(times.expires_at * 1000),
            self._bounds.queue_jobs,
            ID_TTL_S,
            *self._wake(queue),
            queue,
        )

    def take(
        self, queues: Sequence[str], worker: str, count: int, silent_s: float
    ) -> Command:
        keys = [self._key(queue, part) for queue in queues for part in ("jobs", "later")]
        silence_ms = round(silent_s * 1000)
        return _script(JOB_TAKE, keys, GROUP, worker, count, silence_ms, _DUE_AT_ONCE)

    def haul(self, queues: Sequence[str], reply: Any) -> Haul:
        entries, expired, next_due_ms = reply
        jobs = []
        for number, entry, header, raw, attempts, deliveries in entries:
            queue = queues[number - 1]
            message = self._message(queue, header, raw)
            if not attempts.isdigit():
                # As unreadable as a wrong header is; the jobs beside it are not.
                message, attempts = None, 0
            jobs.append(
                Taken(queue, entry.decode(), message, int(attempts), int(deliveries))
            )
        return Haul(jobs, expired, None if next_due_ms < 0 else next_due_ms / 1000)

    def beat(self, worker: str, jobs: Sequence[Taken]) -> Command:
        queues = sorted({job.queue for job in jobs})
        places = {queue: place for place, queue in enumerate(queues, 1)}
        keys = [self._key(queue, "jobs") for queue in queues]
        entries = [part for job in jobs for part in (places[job.queue], job.entry)]
        return _script(JOB_BEAT, keys, GROUP, worker, *entries)

    def end(self, worker: str, job: Taken, end: End) -> Command:
        return _script(
            JOB_END,
            [self._key(job.queue, part) for part in ("jobs", "later", "dead")],
            *(GROUP, worker, job.entry, end.how, end.attempts),
            *(round(end.delay_s * 1000), end.error, self._bounds.dead_letters),
        )

    def dead(self, queue: str, limit: int, before: str) -> Command:
        newest = f"({before}" if before else "+"
        return ("XREVRANGE", self._key(queue, "dead"), newest, "-", "COUNT", limit)

    def dead_letters(self, queue: str, reply: Any) -> list[DeadLetter]:
        letters = []
        for entry, parts in reply:
            fields = _fields(parts)
            raw = fields.get(b"d", b"")
            letters.append(
                DeadLetter(
                    queue=queue,
                    entry=entry.decode(),
                    message=self._message(queue, fields.get(b"h", b""), raw),
                    raw=raw,
                    attempts=_number(fields.get(b"a", b"0")),
                    error=fields.get(b"e", b"").decode(errors="replace"),
                    died_at=int(entry.partition(b"-")[0]) / 1000,
                )
            )
        return letters

    def replay(self, queue: str, entry: str) -> Command:
        keys = [self._key(queue, part) for part in ("jobs", "later", "dead")]
        most = self._bounds.queue_jobs
        return _script(JOB_REPLAY, keys, entry, most, *self._wake(queue), queue)

    def delete(self, queue: str, entry: str) -> Command:
        return ("XDEL", self._key(queue, "dead"), entry)

    def keep(self, name: str, value: bytes, ttl_s: float) -> Command:
        key = channel_key(self._prefix, reserved_channel(name), "kept")
        return ("SET", key, value, "PX", round(ttl_s * 1000))

    def kept(self, name: str) -> Command:
        return ("GET", channel_key(self._prefix, reserved_channel(name), "kept"))

    def state(self, queue: str) -> list[Command]:
        jobs, later = self._key(queue, "jobs"), self._key(queue, "later")
        return [
            ("XLEN", jobs),
            ("XPENDING", jobs, GROUP),
            ("ZCARD", later),
            ("XLEN", self._key(queue, "dead")),
            ("XRANGE", jobs, "-", "+", "COUNT", 1),
        ]

    def queue_state(self, replies: Sequence[Any], now: float) -> QueueState:
        """What the commands of `state` led to.

        Args:
            replies: Theirs.
            now: Unix time in seconds, as Redis tells it.
        """
        length, pending, later, dead, first = replies
        # No group yet: nobody has ever taken a job.
        running = 0 if isinstance(pending, Exception) else _pending(pending)
        oldest_s = 0.0
        if first:
            oldest_s = max(0.0, now - int(first[0][0].partition(b"-")[0]) / 1000)
        return QueueState(max(0, length - running), running, later, dead, oldest_s)

    def _message(self, queue: str, header: bytes, raw: bytes) -> Message | None:
        try:
            return self._envelope.parse_entry(
                queue_channel(queue), header, raw, Position("", 0)
            )
        except MalformedMessage:
            self._metrics.count("malformed_messages")
            return None


def added(reply: Any) -> Added:
    """What `JobCommands.send` led to; other errors raise.

    Raises:
        ResponseError: Redis could not do it.
    """
    if isinstance(reply, Exception):
        full = queue_full(reply)
        if full is None:
            raise reply
        return full
    return bool(reply)


def queue_full(error: Exception) -> QueueFull | None:
    """The error of a full queue, if that is what Redis said."""
    found = _FULL.search(str(error)) if isinstance(error, ResponseError) else None
    return QueueFull(found[2].partition(" script:")[0], int(found[1])) if found else None


def by_queue(
    queues: Sequence[str], states: Sequence[QueueState]
) -> Mapping[str, QueueState]:
    return dict(zip(queues, states, strict=True))


def _script(script: Script, keys: Sequence[bytes], *arguments: Any) -> Command:
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0


def _fields(parts: Sequence[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    if isinstance(parts, dict):
        # redis-py has its own shape for the replies of commands that it knows.
        return parts
    return dict(zip(parts[::2], parts[1::2], strict=False))


def _pending(reply: Any) -> int:
    # redis-py's shape of the summary, or Redis' own.
    return int(reply["pending"] if isinstance(reply, dict) else reply[0])
