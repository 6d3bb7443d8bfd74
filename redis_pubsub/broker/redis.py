"""Redis from the event loop: commands through a pool, messages through one connection.

The pub/sub connection is driven here rather than by redis-py's ``PubSub``, so that every
message that is already in the process is delivered in one turn of the loop, and so that
what is wanted is replayed by us, with our own answer to every loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position, reserved_channel
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read, Sink
from .commands import Command, Commands, checked, not_loaded
from .dialing import abort, connect, replies_at_hand
from .job_commands import JobCommands
from .liveness import Liveness
from .presence_commands import PresenceCommands
from .redis_jobs import RedisJobs
from .redis_presence import RedisPresence
from .replication import REPLICATION, Replication, ServerChanged, raw_info
from .scripts import SCRIPTS
from .sentinel import Master, master_of, open_pool
from .subscriptions import Subscriptions
from .watch import Watch

logger = logging.getLogger("redis_pubsub.broker")
_GATHER_S = 0.005
"""Least time between two commands that change what this process hears."""

_COMMAND_CONNECTIONS = 16
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MOST_S = 2.0


class RedisBroker:
    """One pub/sub connection and a pool of command connections.

    Args:
        options: Address, prefix and times.
        metrics: Where losses are counted.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._options = options
        self._metrics = metrics
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
        # No read timeout: a subscriber is silent as long as nobody publishes.
        self._subscriber_pool = open_pool(
            redis.asyncio.ConnectionPool,
            options,
            self._master,
            socket_timeout=None,
            redis_connect_func=self._subscriber_connected,
            retry=Retry(NoBackoff(), 0),
        )
        self._subscriptions = Subscriptions(self._commands)
        self._connected = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._task: asyncio.Task[None] | None = None
        self._probe_channel = reserved_channel(f"probe:{uuid.uuid4().hex[:12]}")
        self._liveness = Liveness(options.probe_s)
        self._watch = Watch(
            self._liveness,
            metrics,
            interval_s=options.probe_s,
            publish=self._probe,
            ask=lambda: self._subscriptions.ask_again(self._probe_channel),
            # Besides the channel that probes go to.
            is_needed=lambda: len(self._subscriptions.channels) > 1,
            resumed=self._resumed,
        )

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self._liveness.heard_at

    async def start(self, sink: Sink) -> None:
        # First of all, so that on no connection a probe comes before its subscription.
        self._subscriptions.want(self._probe_channel)
        self._task = asyncio.create_task(self._stay_connected(sink), name="redis-pubsub")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._watch.close()
        self._subscriptions.fail(BrokerUnavailable("this process is stopping"))
        await self._redis.aclose()
        await self._pool.disconnect()
        if self._master is not None:
            await self._master.close()

    async def subscribe(self, channel: str) -> None:
        confirmed = self._subscriptions.want(channel)
        try:
            async with asyncio.timeout(self._options.subscribe_timeout_s):
                await asyncio.shield(confirmed)
        except TimeoutError:
            self._metrics.count("subscribe_failed")
            raise BrokerUnavailable(
                f"Redis did not confirm a subscription within "
                f"{self._options.subscribe_timeout_s} s"
            ) from None

    async def unsubscribe(self, channel: str) -> None:
        self._subscriptions.forget(channel)

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
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

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

    async def _subscriber_connected(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        if self._master is not None:
            await connection.send_command(*REPLICATION)
            with contextlib.suppress(ResponseError):
                self._replication.refuse_replica(await connection.read_response())

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

    # -- the pub/sub connection -------------------------------------------------

    async def _stay_connected(self, sink: Sink) -> None:
        failures = 0
        while True:
            connection = self._subscriber_pool.make_connection()
            try:
                await connect(connection, self._options.connect_timeout_s)
                failures = 0
                await self._serve(connection, sink)
            except (RedisError, OSError) as error:
                failures += 1
                self._metrics.count("redis_connections_lost")
                logger.warning("the pub/sub connection to Redis is gone: %s", error)
            except Exception:
                failures += 1
                self._metrics.count("broker_crashed")
                logger.exception("reading from Redis failed; connecting anew")
            finally:
                self._connected.clear()
                self._subscriptions.lost()
                await connection.disconnect(nowait=True)
            # Full jitter: processes that lost one Redis must not come back as one.
            longest = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0, longest))

    async def _probe(self) -> None:
        if not self._subscriptions.is_answered(self._probe_channel):
            raise BrokerUnavailable("Redis: a subscription is not confirmed yet")
        probe = ("PUBLISH", self._commands.live(self._probe_channel), b"")
        try:
            await self._run([probe])
        except BrokerUnavailable:
            # A pooled connection may have been reset unnoticed; a probe does no harm twice.
            await self._run([probe])

    async def _serve(self, connection: AbstractConnection, sink: Sink) -> None:
        self._subscriptions.replay()
        self._connected.set()
        writer = asyncio.create_task(self._write(connection), name="redis-pubsub-writer")
        reader = asyncio.create_task(
            self._read(connection, sink), name="redis-pubsub-reader"
        )
        watch = asyncio.create_task(
            self._watch.run(lambda: abort(connection)), name="redis-pubsub-watch"
        )
        tasks = [reader, writer, watch]
        if self._master is not None:
            following = self._master.follow(
                connection,
                interval_s=self._options.probe_s / 2,
                metrics=self._metrics,
                abort=lambda: abort(connection),
            )
            tasks.append(asyncio.create_task(following, name="redis-pubsub-sentinel"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            abort(connection)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _write(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        sent_at = 0.0
        while True:
            await self._subscriptions.changed.wait()
            # A lone wish goes at once; in a storm those of a moment share a command.
            wait_s = sent_at + _GATHER_S - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            sent_at = loop.time()
            for command in self._subscriptions.take():
                await connection.send_command(*command)

    async def _read(self, connection: AbstractConnection, sink: Sink) -> None:
        at_hand = replies_at_hand(connection)
        while True:
            if not self._resumed.is_set():
                await self._resumed.wait()
            reply: list[Any] | None = await connection.read_response(timeout=math.inf)
            now = time.monotonic()
            while reply is not None:
                self._take(reply, sink, now)
                # One read of the socket brings so much and no more.
                reply = at_hand() if self._resumed.is_set() else None

    def _take(self, reply: list[Any], sink: Sink, now: float) -> None:
        kind, name = reply[0], reply[1]
        if kind == b"message":
            self._liveness.proved(now)
            channel = self._subscriptions.channels.get(name)
            if channel is not None and channel != self._probe_channel:
                sink.deliver(channel, reply[2])
            return
        self._liveness.heard(now)
        if kind == b"subscribe":
            again = self._subscriptions.confirm(name)
            if again == self._probe_channel:
                self._liveness.passed_by()
                self._watch.wake()
            elif again is not None:
                sink.resubscribed(again)
