"""Redis from synchronous code: one small pool, every wait bounded, no event loop.

Fork-safe: redis-py's pool notices another process id and opens its own connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read
from .commands import (
    SCRIPTS,
    Command,
    Commands,
    checked,
    connection_arguments,
    not_loaded,
)
from .fencing import Fence, Numbered, Outcome
from .presence_commands import PresenceCommands
from .redis_presence import BlockingRedisPresence

_POOL_SIZE = 32


class BlockingRedisBroker:
    """The blocking side of `RedisBroker`.

    Args:
        options: Address and times.
        metrics: Where failures are counted.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._commands = Commands(options, metrics)
        self.presence = BlockingRedisPresence(
            self._run, PresenceCommands(self._commands, options, metrics)
        )
        pool = redis.BlockingConnectionPool.from_url(
            options.url,
            max_connections=_POOL_SIZE,
            timeout=options.command_timeout_s,
            socket_timeout=options.command_timeout_s,
            # A repeated publish could arrive twice: whether to repeat is ours to say.
            retry=Retry(NoBackoff(), 0),
            **connection_arguments(options),
        )
        self._redis = redis.Redis(connection_pool=pool)

    def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        replies = self._run([self._commands.publish(draft) for draft in drafts])
        return [self._commands.published(reply) for reply in replies]

    def publish_fenced(self, drafts: Sequence[Numbered], fence: Fence) -> list[Outcome]:
        replies = self._replies(
            [
                self._commands.publish_fenced(number, draft, fence)
                for number, draft in drafts
            ]
        )
        return [self._commands.sent(reply) for reply in replies]

    def read(self, reads: Sequence[Read]) -> list[History]:
        replies = self._run([self._commands.read(read) for read in reads])
        return [
            self._commands.history(read.channel, reply)
            for read, reply in zip(reads, replies, strict=True)
        ]

    def close(self) -> None:
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _run(self, commands: list[Command]) -> list[Any]:
        return checked(self._replies(commands))

    def _replies(self, commands: list[Command]) -> list[Any]:
        """The replies, errors of single commands among them."""
        try:
            replies = self._pipeline(commands)
            missing = not_loaded(replies)
            if missing:
                for script in SCRIPTS:
                    self._redis.script_load(script.text)
                again = self._pipeline([commands[i] for i in missing])
                for i, reply in zip(missing, again, strict=True):
                    replies[i] = reply
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        return replies

    def _pipeline(self, commands: list[Command]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            replies: list[Any] = pipeline.execute(raise_on_error=False)
            return replies
