"""Connections that go to whichever Redis the sentinels say is the master.

redis-py's own classes ask the sentinels before each connect. Added here: a connection that
leads to a master of the past is made anew before it is used again; and somebody may ask
whether the master has changed while nothing fails, which a server that was cut off from
the others would not say.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..metrics import Metrics, Occasionally
from ..options import BrokerOptions
from .addresses import is_sentinel, sentinel_address
from .dialing import is_open

logger = logging.getLogger("redis_pubsub.broker")

Address = tuple[str, int]

_ANSWER_LEAST_S = 0.2
_UNANSWERED_S = 5.0


def connection_arguments(options: BrokerOptions) -> dict[str, Any]:
    """What every connection of either side is opened with: each wait is ours to bound."""
    arguments: dict[str, Any] = {
        "socket_connect_timeout": options.connect_timeout_s,
        # Replies as RESP2 gives them; the pub/sub reader tells messages by their shape.
        "protocol": 2,
    }
    if not options.url.startswith("unix://"):
        arguments["socket_keepalive"] = True
    return arguments


def open_pool(kind: Any, options: BrokerOptions, master: Any, **arguments: Any) -> Any:
    """A pool of redis-py's.

    Args:
        kind: The pool's class.
        options: Address and times.
        master: A `Master` or `BlockingMaster` if the address is one of Sentinel's.
        arguments: Of the pool and its connections.
    """
    arguments |= connection_arguments(options)
    if master is None:
        return kind.from_url(options.url, **arguments)
    pool = kind.from_url(sentinel_address(options.url).url, **arguments)
    pool.connection_class = master.connection_class(pool.connection_class)
    # Where redis-py's connections of this kind look for the sentinels.
    pool.connection_kwargs["connection_pool"] = master
    return pool


def _answer_s(options: BrokerOptions, sentinels: int) -> float:
    """How long one sentinel may take, so that all but one may be dead."""
    return max(_ANSWER_LEAST_S, options.connect_timeout_s / (sentinels + 1))


class _Master:
    """What redis-py's connections ask of the pool that they are in.

    Attributes:
        address: The master, as far as is known.
    """

    is_master = True
    check_connection = False

    def __init__(self, options: BrokerOptions, sentinel: Any, retry: Any) -> None:
        known = sentinel_address(options.url)
        answer_s = _answer_s(options, len(known.sentinels))
        arguments = {
            **known.login,
            **connection_arguments(options),
            "socket_connect_timeout": answer_s,
            "socket_timeout": answer_s,
            # The next sentinel is asked instead.
            "retry": retry,
        }
        self.service_name = known.service
        self.address: Address | None = None
        self._sentinel = sentinel(list(known.sentinels), sentinel_kwargs=arguments)

    def _asking_all(self) -> Any:
        """A Sentinel for one question: redis-py's moves who answers to the front of its
        list, which two questions at once must not do to one list."""
        question = copy.copy(self._sentinel)
        question.sentinels = list(self._sentinel.sentinels)
        return question

    def _answered(self, question: Any, address: Address) -> Address:
        self._sentinel.sentinels = question.sentinels
        self.address = address
        return address


class BlockingMaster(_Master):
    """The master, for threads.

    Nobody follows it in the background here: a process that publishes now and then has no
    thread for that. Instead the sentinels are asked again before a connection is used, if
    they were not lately.
    """

    def __init__(self, options: BrokerOptions) -> None:
        super().__init__(options, redis.sentinel.Sentinel, Retry(NoBackoff(), 0))
        self._interval_s = options.probe_s / 2
        self._asked_at = float("-inf")
        self._asking = threading.Lock()

    def get_master_address(self) -> Address:
        """Ask the sentinels.

        Raises:
            RedisError: None of them knows one that is up.
        """
        question = self._asking_all()
        address = self._answered(question, question.discover_master(self.service_name))
        self._asked_at = time.monotonic()
        return address

    def look(self) -> None:
        """Ask again if it is time, and nobody else does. Without an answer the last one
        counts, and the next question waits longer: asking took time."""
        if time.monotonic() - self._asked_at < self._interval_s:
            return
        if self._asking.acquire(blocking=False):
            try:
                self.get_master_address()
            except (RedisError, OSError):
                self._asked_at = time.monotonic() + _UNANSWERED_S
            finally:
                self._asking.release()

    @staticmethod
    def connection_class(plain: Any) -> Any:
        is_tls = plain is redis.connection.SSLConnection
        return _BlockingTLSConnection if is_tls else _BlockingConnection

    def close(self) -> None:
        for each in self._sentinel.sentinels:
            each.close()


class Master(_Master):
    """The master, for the event loop."""

    def __init__(self, options: BrokerOptions) -> None:
        super().__init__(
            options, redis.asyncio.sentinel.Sentinel, AsyncRetry(NoBackoff(), 0)
        )
        self._may_log = Occasionally()

    async def get_master_address(self) -> Address:
        """As `BlockingMaster.get_master_address`."""
        question = self._asking_all()
        return self._answered(question, await question.discover_master(self.service_name))

    @staticmethod
    def connection_class(plain: Any) -> Any:
        is_tls = plain is redis.asyncio.connection.SSLConnection
        return _TLSConnection if is_tls else _Connection

    async def follow(
        self,
        connection: Any,
        *,
        interval_s: float,
        metrics: Metrics,
        abort: Callable[[], Any],
    ) -> None:
        """Ask again and again; end a connection that leads to another server than the
        sentinels name. Ends then.

        Args:
            connection: An open one.
            interval_s: Between two questions.
            metrics: Counts failovers.
            abort: Ends it without waiting.
        """
        # Not until cancelled: redis-py may swallow that.
        while is_open(connection):
            await asyncio.sleep(interval_s)
            try:
                address = await self.get_master_address()
            except (RedisError, OSError) as error:
                if self._may_log("sentinel"):
                    logger.warning("no sentinel names a master: %s", error)
                continue
            if is_open(connection) and address != (connection.host, connection.port):
                metrics.count("redis_failovers")
                logger.warning("the master is %s:%d now; connecting there", *address)
                abort()
                return

    async def close(self) -> None:
        for each in self._sentinel.sentinels:
            await each.aclose()


class _Connection(redis.asyncio.sentinel.SentinelManagedConnection):
    async def connect(self) -> None:
        """Called before each use."""
        if self.is_connected and self.connection_pool.address != (self.host, self.port):
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]


class _TLSConnection(_Connection, redis.asyncio.connection.SSLConnection):
    pass


class _BlockingConnection(redis.sentinel.SentinelManagedConnection):
    def connect(self) -> None:
        """Called before each use."""
        if self._sock:
            self.connection_pool.look()
        if self._sock and self.connection_pool.address != (self.host, self.port):
            self.disconnect()
        super().connect()  # type: ignore[no-untyped-call]


class _BlockingTLSConnection(_BlockingConnection, redis.connection.SSLConnection):
    pass


def master_of(kind: Any, options: BrokerOptions) -> Any:
    """A `Master` or `BlockingMaster` if the address is one of Sentinel's."""
    return kind(options) if is_sentinel(options.url) else None
