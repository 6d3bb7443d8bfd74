"""Redis from synchronous code: one small pool, every wait bounded, no event loop.

Connections are redis-py's; what is done with them is not its pipeline's work, which costs
a save more than Redis does. Fork-safe: a child opens connections of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position, queue_of
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read, Settled
from .commands import Command, Commands, checked, not_loaded
from .connections import Connections
from .fencing import Fence, Numbered, Outcome
from .job_commands import JobCommands
from .line import answer
from .posting import Posting
from .presence_commands import PresenceCommands
from .redis_jobs import BlockingRedisJobs
from .redis_presence import BlockingRedisPresence
from .replication import REPLICATION, Replication, ServerChanged, raw_info
from .scripts import SCRIPTS
from .sentinel import BlockingMaster, master_of, open_pool

_POOL_SIZE = 32
"""Connections at once; whoever comes then waits for one."""


class BlockingRedisBroker:
    """The blocking side of `RedisBroker`.

    Args:
        options: Address and times.
        metrics: Where failures are counted.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._commands = Commands(options, metrics)
        self._replication = Replication(options)
        self.presence = BlockingRedisPresence(
            self._run, PresenceCommands(self._commands, options, metrics)
        )
        self._job_commands = JobCommands(options, metrics)
        self.jobs = BlockingRedisJobs(self._replies, self._job_commands)
        self._master: BlockingMaster | None = master_of(BlockingMaster, options)
        pool = open_pool(
            redis.ConnectionPool,
            options,
            self._master,
            socket_timeout=options.command_timeout_s,
            redis_connect_func=self._connected,
            # A repeated publish could arrive twice: whether to repeat is ours to say.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.Redis(connection_pool=pool)
        raw_info(self._redis)
        timeout_s = options.command_timeout_s
        self._connections = Connections(pool, _POOL_SIZE, timeout_s)
        self._posting = Posting(
            pool, self._replication, timeout_s, metrics, moves=self._master is not None
        )

    def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        replies = self._run([self._commands.publish(draft) for draft in drafts])
        return [self._commands.published(reply) for reply in replies]

    def post(self, drafts: Sequence[Draft], settled: Settled) -> None:
        self._posting.post([self._commands.publish(draft) for draft in drafts], settled)

    @property
    def is_settled(self) -> bool:
        return self._posting.is_settled

    def settle(self) -> None:
        self._posting.settle()

    def publish_fenced(self, drafts: Sequence[Numbered], fence: Fence) -> list[Outcome]:
        messages = [each for each in drafts if queue_of(each[1].channel) is None]
        commands = iter(self._commands.publish_fenced(messages, fence))
        replies = self._replies(
            [
                next(commands)
                if queue_of(draft.channel) is None
                else self._job_commands.send(draft, once=True)
                for _, draft in drafts
            ]
        )
        return [self._commands.sent(reply) for reply in replies]

    def read(self, reads: Sequence[Read]) -> list[History]:
        replies = self._run([self._commands.read(read) for read in reads])
        return [
            self._commands.history(read.channel, reply)
            for read, reply in zip(reads, replies, strict=True)
        ]

    def put(self, name: str, value: bytes, ttl_s: float) -> None:
        self._run([self._commands.put(name, value, ttl_s)])

    def close(self) -> None:
        self._posting.close()
        self._connections.close()
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
        self._replication.connected(info)

    def _run(self, commands: list[Command]) -> list[Any]:
        return checked(self._replies(commands))

    def _replies(self, commands: list[Command]) -> list[Any]:
        """The replies, errors of single commands among them."""
        # What was posted comes first, though on another connection.
        self._posting.settle()
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
        if not self._replication.is_due():
            return self._pipeline(commands)
        info, *replies = self._pipeline([REPLICATION, *commands])
        self._replication.read(info)
        return replies

    def _pipeline(self, commands: list[Command]) -> list[Any]:
        self._replication.begin()
        ready = [self._replication.ready(command) for command in commands]
        with self._connections.one() as connection:
            connection.send_packed_command(connection.pack_commands(ready))
            replies = [answer(connection) for _ in ready]
        callbacks = self._redis.response_callbacks
        for i, (name, *_) in enumerate(ready):
            if name in callbacks and not isinstance(replies[i], Exception):
                replies[i] = callbacks[name](replies[i])
        return replies
