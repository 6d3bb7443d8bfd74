"""Redis from synchronous code: one small pool, every wait bounded, no event loop.

Fork-safe: redis-py's pool notices another process id and opens its own connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read
from .commands import (
    REPLICATION,
    SCRIPTS,
    Command,
    Commands,
    ServerChanged,
    checked,
    not_loaded,
    raw_info,
)
from .fencing import Fence, Numbered, Outcome
from .presence_commands import PresenceCommands
from .redis_presence import BlockingRedisPresence
from .sentinel import BlockingMaster, master_of, open_pool

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
        self._master: BlockingMaster | None = master_of(BlockingMaster, options)
        pool = open_pool(
            redis.BlockingConnectionPool,
            options,
            self._master,
            max_connections=_POOL_SIZE,
            timeout=options.command_timeout_s,
            socket_timeout=options.command_timeout_s,
            redis_connect_func=self._connected,
            # A repeated publish could arrive twice: whether to repeat is ours to say.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.Redis(connection_pool=pool)
        raw_info(self._redis)

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
        if self._master is not None:
            self._master.close()

    def _connected(self, connection: Any) -> None:
        """As `RedisBroker._command_connected`."""
        connection.on_connect()
        connection.send_command(*REPLICATION)
        try:
            info = connection.read_response()
        except ResponseError as error:
            info = error
        self._commands.connected(info)

    def _run(self, commands: list[Command]) -> list[Any]:
        return checked(self._replies(commands))

    def _replies(self, commands: list[Command]) -> list[Any]:
        """The replies, errors of single commands among them."""
        try:
            replies = self._ask(commands)
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

    def _ask(self, commands: list[Command]) -> list[Any]:
        try:
            return self._ask_once(commands)
        except ServerChanged:
            # Nothing was sent; now that the server is known, it is.
            return self._ask_once(commands)

    def _ask_once(self, commands: list[Command]) -> list[Any]:
        if not self._commands.asks_replication():
            return self._pipeline(commands)
        info, *replies = self._pipeline([REPLICATION, *commands])
        self._commands.read_replication(info)
        return replies

    def _pipeline(self, commands: list[Command]) -> list[Any]:
        self._commands.begin()
        with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*self._commands.ready(command))  # type: ignore[no-untyped-call]
            replies: list[Any] = pipeline.execute(raise_on_error=False)
            return replies
