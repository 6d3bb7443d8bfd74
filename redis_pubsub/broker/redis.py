"""Redis from the event loop: commands through a pool; what is heard is a `Subscriber`'s."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read, Sink
from .commands import Command, Commands, checked, not_loaded
from .job_commands import JobCommands
from .presence_commands import PresenceCommands
from .redis_jobs import RedisJobs
from .redis_presence import RedisPresence
from .replication import REPLICATION, Replication, ServerChanged, raw_info
from .scripts import SCRIPTS
from .sentinel import Master, master_of, open_pool
from .subscriber import Subscriber

_COMMAND_CONNECTIONS = 16


class RedisBroker:
    """One pub/sub connection and a pool of command connections.

    Args:
        options: Address, prefix and times.
        metrics: Where losses are counted.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._commands = Commands(options, metrics)
        self._replication = Replication(options)
        self.presence = RedisPresence(
            self._run, PresenceCommands(self._commands, options, metrics)
        )
        self.jobs = RedisJobs(self._replies, JobCommands(options, metrics))
        self._master: Master | None = master_of(Master, options)
        self._pool = open_pool(
            redis.asyncio.BlockingConnectionPool,
            options,
            self._master,
            max_connections=_COMMAND_CONNECTIONS,
            timeout=options.command_timeout_s,
            socket_timeout=options.command_timeout_s,
            redis_connect_func=self._command_connected,
            # A repeated publish could arrive twice: whether to repeat is ours to say.
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = redis.asyncio.Redis(connection_pool=self._pool)
        raw_info(self._redis)
        self.subscriber = Subscriber(
            options,
            metrics,
            channel_key=self._commands.live,
            replication=self._replication,
            master=self._master,
            run=self._run,
        )

    @property
    def is_connected(self) -> bool:
        return self.subscriber.is_connected

    @property
    def silent_s(self) -> float:
        return self.subscriber.silent_s

    async def start(self, sink: Sink) -> None:
        self.subscriber.start(sink)

    async def close(self) -> None:
        await self.subscriber.close()
        await self._redis.aclose()
        await self._pool.disconnect()
        if self._master is not None:
            await self._master.close()

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        return self.subscriber.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        self.subscriber.unsubscribe(channel)

    async def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        replies = await self._run([self._commands.publish(draft) for draft in drafts])
        return [self._commands.published(reply) for reply in replies]

    async def notify(self, draft: Draft) -> int:
        (reply,) = await self._run([self._commands.notify(draft)])
        return int(reply)

    async def read(self, reads: Sequence[Read]) -> list[History]:
        replies = await self._run([self._commands.read(read) for read in reads])
        return [
            self._commands.history(read.channel, reply)
            for read, reply in zip(reads, replies, strict=True)
        ]

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        await self._run([self._commands.put(name, value, ttl_s)])

    async def take(self, name: str) -> bytes | None:
        value: bytes | None
        (value,) = await self._run([self._commands.take(name)])
        return value

    def pause(self) -> None:
        self.subscriber.pause()

    def resume(self) -> None:
        self.subscriber.resume()

    # -- commands ---------------------------------------------------------------

    async def _run(self, commands: list[Command]) -> list[Any]:
        return checked(await self._replies(commands))

    async def _replies(self, commands: list[Command]) -> list[Any]:
        """The replies, errors of single commands among them."""
        try:
            replies = await self._ask(commands)
            missing = not_loaded(replies)
            if missing:
                for script in SCRIPTS:
                    await self._redis.script_load(script.text)
                again = await self._pipeline([commands[i] for i in missing])
                for i, reply in zip(missing, again, strict=True):
                    replies[i] = reply
        except (RedisError, OSError, AttributeError, RuntimeError) as error:
            # The last two: asyncio's and uvloop's word for a transport that has just been
            # closed under redis-py.
            raise BrokerUnavailable(f"Redis: {error}") from error
        return replies

    async def _command_connected(self, connection: AbstractConnection) -> None:
        """Each new command connection says which server it has reached: after a failover
        it is another, and may lack what the old one said last."""
        await connection.on_connect()
        await connection.send_command(*REPLICATION)
        try:
            info: Any = await connection.read_response()
        except ResponseError as error:
            info = error
        self._replication.connected(info)

    async def _ask(self, commands: list[Command]) -> list[Any]:
        try:
            return await self._ask_once(commands)
        except ServerChanged:
            # Nothing was sent; now that the server is known, it is.
            return await self._ask_once(commands)

    async def _ask_once(self, commands: list[Command]) -> list[Any]:
        if not self._replication.is_due():
            return await self._pipeline(commands)
        info, *replies = await self._pipeline([REPLICATION, *commands])
        self._replication.read(info)
        return replies

    async def _pipeline(self, commands: list[Command]) -> list[Any]:
        self._replication.begin()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*self._replication.ready(command))
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies
