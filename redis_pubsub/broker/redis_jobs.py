"""Queues of jobs in Redis, from the event loop and from synchronous code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from ..exceptions import BrokerUnavailable
from ..messages import Draft
from .commands import Command, checked
from .job_commands import JobCommands, added, by_queue, queue_full
from .jobs import Added, DeadLetter, End, Haul, QueueState, Taken

_PARTS = 5
_TIME: Command = ("TIME",)


class RedisJobs:
    """A `redis_pubsub.broker.jobs.Jobs`.

    Args:
        run: One round trip: every command's reply, errors of single commands among them;
            raises `BrokerUnavailable`.
        commands: What to ask.
    """

    def __init__(
        self,
        run: Callable[[list[Command]], Awaitable[list[Any]]],
        commands: JobCommands,
    ) -> None:
        self._run = run
        self._commands = commands

    async def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]:
        return _added(await self._run([self._commands.send(d, once=once) for d in drafts]))

    async def take(
        self, queues: Sequence[str], worker: str, count: int, *, silent_s: float = 0.0
    ) -> Haul:
        command = self._commands.take(queues, worker, count, silent_s)
        (reply,) = checked(await self._run([command]))
        return self._commands.haul(queues, reply)

    async def beat(self, worker: str, jobs: Sequence[Taken]) -> list[Taken]:
        (lost,) = checked(await self._run([self._commands.beat(worker, jobs)]))
        return [jobs[place] for place in lost]

    async def end(self, worker: str, job: Taken, end: End) -> bool:
        (reply,) = checked(await self._run([self._commands.end(worker, job, end)]))
        return bool(reply)

    async def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]:
        return _states(
            self._commands, queues, await self._run(_ask(self._commands, queues))
        )

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        checked(await self._run([self._commands.keep(name, value, ttl_s)]))

    async def kept(self, name: str) -> bytes | None:
        (value,) = checked(await self._run([self._commands.kept(name)]))
        return None if value is None else bytes(value)


class BlockingRedisJobs:
    """A `redis_pubsub.broker.jobs.BlockingJobs`; see `RedisJobs`."""

    def __init__(
        self, run: Callable[[list[Command]], list[Any]], commands: JobCommands
    ) -> None:
        self._run = run
        self._commands = commands

    def send(self, drafts: Sequence[Draft], *, once: bool = False) -> list[Added]:
        return _added(self._run([self._commands.send(d, once=once) for d in drafts]))

    def state(self, queues: Sequence[str]) -> Mapping[str, QueueState]:
        return _states(self._commands, queues, self._run(_ask(self._commands, queues)))

    def dead(self, queue: str, limit: int, before: str = "") -> list[DeadLetter]:
        (reply,) = checked(self._run([self._commands.dead(queue, limit, before)]))
        return self._commands.dead_letters(queue, reply)

    def replay(self, queue: str, entry: str) -> bool:
        (reply,) = self._run([self._commands.replay(queue, entry)])
        if isinstance(reply, Exception):
            full = queue_full(reply)
            if full is not None:
                raise full
        return bool(checked([reply])[0])

    def delete(self, queue: str, entry: str) -> bool:
        (reply,) = checked(self._run([self._commands.delete(queue, entry)]))
        return bool(reply)

    def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        checked(self._run([self._commands.keep(name, value, ttl_s)]))

    def kept(self, name: str) -> bytes | None:
        (value,) = checked(self._run([self._commands.kept(name)]))
        return None if value is None else bytes(value)


def _added(replies: list[Any]) -> list[Added]:
    try:
        return [added(reply) for reply in replies]
    except RedisError as error:
        raise BrokerUnavailable(f"Redis: {error}") from error


def _ask(commands: JobCommands, queues: Sequence[str]) -> list[Command]:
    return [_TIME, *(command for queue in queues for command in commands.state(queue))]


def _states(
    commands: JobCommands, queues: Sequence[str], replies: list[Any]
) -> Mapping[str, QueueState]:
    time, *rest = replies
    # Of a queue without a group only that one question has no answer.
    checked([time, *(r for i, r in enumerate(rest) if i % _PARTS != 1)])
    now = int(time[0]) + int(time[1]) / 1_000_000
    parts = [rest[begin : begin + _PARTS] for begin in range(0, len(rest), _PARTS)]
    return by_queue(queues, [commands.queue_state(each, now) for each in parts])
