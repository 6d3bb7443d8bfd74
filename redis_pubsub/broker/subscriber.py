"""The connection on which a process hears Redis: kept up, watched, and never trusted.

It is driven here rather than by redis-py's ``PubSub``, so that every message that is
already in the process is delivered in one turn of the loop, and so that what is wanted is
replayed by us, with our own answer to every loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from ..exceptions import BrokerUnavailable
from ..messages import reserved_channel
from ..metrics import Metrics, Occasionally
from ..options import BrokerOptions
from .base import Sink
from .commands import Command
from .dialing import abort, connect, replies_at_hand
from .liveness import Liveness
from .patience import Patience
from .replication import REPLICATION, Replication
from .sentinel import Master, open_pool
from .subscriptions import Subscriptions
from .watch import Watch

logger = logging.getLogger("redis_pubsub.broker")

_GATHER_S = 0.005
"""Least time between two commands that change what this process hears."""
_BACKOFF_FIRST_S = 0.05
_BACKOFF_MOST_S = 2.0
_TELL_EVERY_S = 10.0


class Subscriber:
    """One pub/sub connection; another one when it is lost.

    Args:
        options: Address and times.
        metrics: Where losses are counted.
        channel_key: What a channel is called in Redis.
        replication: Refuses a server that sentinels wrongly name.
        master: Where sentinels say the server is; ``None`` if the address says so.
        run: Sends commands on another connection: probes, which come back on this one.
    """

    def __init__(
        self,
        options: BrokerOptions,
        metrics: Metrics,
        *,
        channel_key: Callable[[str], bytes],
        replication: Replication,
        master: Master | None,
        run: Callable[[list[Command]], Awaitable[list[Any]]],
    ) -> None:
        self._options = options
        self._metrics = metrics
        self._channel_key = channel_key
        self._replication = replication
        self._master = master
        self._run = run
        # No read timeout: a subscriber is silent as long as nobody publishes.
        self._pool = open_pool(
            redis.asyncio.ConnectionPool,
            options,
            master,
            socket_timeout=None,
            redis_connect_func=self._prepare,
            retry=Retry(NoBackoff(), 0),
        )
        self._subscriptions = Subscriptions(channel_key)
        self._patience = Patience(options.subscribe_timeout_s, self._lost_patience)
        self._connected = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._may_log = Occasionally(_TELL_EVERY_S)
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

    def start(self, sink: Sink) -> None:
        # First of all, so that on no connection a probe comes before its subscription.
        self._subscriptions.want(self._probe_channel)
        self._task = asyncio.create_task(self._stay_connected(sink), name="redis-pubsub")

    async def close(self) -> None:
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._watch.close()
        self._patience.close()
        self._subscriptions.fail(BrokerUnavailable("this process is stopping"))

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        """See `redis_pubsub.broker.Broker.subscribe`."""
        confirmed = self._subscriptions.want(channel)
        if not confirmed.done():
            self._patience.lend(channel, confirmed)
        return confirmed

    def _lost_patience(self, channel: str, confirmed: asyncio.Future[None]) -> None:
        self._metrics.count("subscribe_failed")
        error = BrokerUnavailable(
            f"Redis did not confirm a subscription within "
            f"{self._options.subscribe_timeout_s} s"
        )
        self._subscriptions.disappoint(channel, confirmed, error)

    def unsubscribe(self, channel: str) -> None:
        self._subscriptions.forget(channel)

    def pause(self) -> None:
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    async def _prepare(self, connection: AbstractConnection) -> None:
        await connection.on_connect()
        if self._master is not None:
            await connection.send_command(*REPLICATION)
            with contextlib.suppress(ResponseError):
                self._replication.refuse_replica(await connection.read_response())

    async def _stay_connected(self, sink: Sink) -> None:
        failures = 0
        # Being cancelled is not enough: the Redis client may swallow that.
        while not self._is_closing:
            connection = self._pool.make_connection()
            began = time.monotonic()
            try:
                await connect(connection, self._options.connect_timeout_s)
                if self._is_closing:
                    return
                await self.serve(connection, sink)
            except (RedisError, OSError) as error:
                failures += 1
                self._metrics.count("redis_connections_lost")
                self._tell(error)
            except Exception:
                failures += 1
                self._metrics.count("broker_crashed")
                logger.exception("reading from Redis failed; connecting anew")
            finally:
                self._connected.clear()
                self._subscriptions.lost()
                await connection.disconnect(nowait=True)
            if time.monotonic() - began > _BACKOFF_MOST_S:
                # One that ends as soon as it is made, for want of a permission for
                # instance, is no success.
                failures = 1
            # Full jitter: processes that lost one Redis must not come back as one.
            longest = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0, longest))

    def _tell(self, error: Exception) -> None:
        if self._connected.is_set():
            logger.warning("the pub/sub connection to Redis is gone: %s", error)
        elif self._may_log(type(error).__name__):
            logger.warning(
                "Redis cannot be reached, trying on: %s. REDIS_PUBSUB['url'] says where it "
                'is; "memory://" needs none, for one process',
                error,
            )

    async def _probe(self) -> None:
        if not self._subscriptions.is_answered(self._probe_channel):
            raise BrokerUnavailable("Redis: a subscription is not confirmed yet")
        probe = ("PUBLISH", self._channel_key(self._probe_channel), b"")
        try:
            await self._run([probe])
        except BrokerUnavailable:
            # A pooled connection may have been reset unnoticed; a probe does no harm twice.
            await self._run([probe])

    async def serve(self, connection: AbstractConnection, sink: Sink) -> None:
        """Hear Redis on a connection, until something ends it."""
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
            if self._liveness.proved_at != now:
                # Once for all that one read has brought.
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
