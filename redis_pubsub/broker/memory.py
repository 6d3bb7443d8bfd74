"""A broker inside one process: the same promises without Redis.

For tests and for a single serving process. Django's threads publish into it while the
loop listens, so the store is guarded by a lock; messages reach a loop through
``call_soon_threadsafe``, in the order of the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Position
from ..metrics import Metrics
from ..options import BrokerOptions
from ..wire import Envelope
from .base import History, Read, Settled, Sink
from .fencing import Fence, Numbered, Outcome
from .memory_jobs import BlockingMemoryJobs, MemoryJobs
from .memory_presence import MemoryPresence
from .memory_store import store_of

logger = logging.getLogger("redis_pubsub.broker")


class MemoryBroker:
    """The asynchronous side; suspends in every call, as a network does."""

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._options = options
        self._store = store_of(options.url)
        self._envelope = Envelope(options.envelope_key)
        self.presence = MemoryPresence(self._store.presence, self._envelope)
        self.jobs = MemoryJobs(self._store.jobs, options.workers, self._envelope)
        self._wanted: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._sink: Sink | None = None
        self._held: list[tuple[str, bytes]] | None = None

    @property
    def is_connected(self) -> bool:
        return self._sink is not None

    @property
    def silent_s(self) -> float:
        return 0.0 if self._sink is not None else float("inf")

    async def start(self, sink: Sink) -> None:
        await asyncio.sleep(0)
        self._sink = sink
        self._store.attach(self)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self._store.detach(self)
        self._sink = None

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        confirmed = self._loop.create_future()
        self._loop.call_soon(self._subscribe, channel, confirmed)
        return confirmed

    def _subscribe(self, channel: str, confirmed: asyncio.Future[None]) -> None:
        if self._sink is not None:
            self._wanted.add(channel)
        if confirmed.done():
            return
        if self._sink is not None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(BrokerUnavailable("this broker is closed"))

    async def unsubscribe(self, channel: str) -> None:
        await asyncio.sleep(0)
        self._wanted.discard(channel)

    async def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        await asyncio.sleep(0)
        return self._store.publish(drafts, self._options.meta_ttl_s, self._envelope)

    async def notify(self, draft: Draft) -> int:
        await asyncio.sleep(0)
        return self._store.notify(draft, self._envelope)

    async def read(self, reads: Sequence[Read]) -> list[History]:
        await asyncio.sleep(0)
        return [self._store.read(read, self._options.meta_ttl_s) for read in reads]

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        await asyncio.sleep(0)
        self._store.put(name, value, ttl_s)

    async def take(self, name: str) -> bytes | None:
        await asyncio.sleep(0)
        return self._store.take(name)

    def pause(self) -> None:
        if self._held is None:
            self._held = []

    def resume(self) -> None:
        held, self._held = self._held, None
        for channel, data in held or ():
            self._deliver(channel, data)

    def arrived(self, channel: str, data: bytes) -> bool:
        """Called by the store, under its lock, from any thread.

        Returns:
            Whether this side wants the channel.
        """
        if channel not in self._wanted or self._loop.is_closed():
            return False
        self._loop.call_soon_threadsafe(self._deliver, channel, data)
        return True

    def _deliver(self, channel: str, data: bytes) -> None:
        if self._held is not None:
            self._held.append((channel, data))
        elif self._sink is not None and channel in self._wanted:
            self._sink.deliver(channel, data)


class BlockingMemoryBroker:
    """The blocking side, for the threads of the one process."""

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._options = options
        self._store = store_of(options.url)
        self.presence = self._store.presence
        self._envelope = Envelope(options.envelope_key)
        self.jobs = BlockingMemoryJobs(self._store.jobs, options.workers, self._envelope)
        self._has_warned = False

    def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        if not self._store.has_brokers and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "published to %s in a process that serves no sockets: nobody can hear it; "
                'set REDIS_PUBSUB["url"] to a Redis that all processes share',
                self._options.url,
            )
        return self._store.publish(drafts, self._options.meta_ttl_s, self._envelope)

    is_settled = True

    def post(self, drafts: Sequence[Draft], settled: Settled) -> None:
        self.publish(drafts)
        settled(None)

    def settle(self) -> None:
        """Nothing is under way."""

    def publish_fenced(self, drafts: Sequence[Numbered], fence: Fence) -> list[Outcome]:
        return self._store.publish_fenced(drafts, fence, self._options, self._envelope)

    def read(self, reads: Sequence[Read]) -> list[History]:
        return [self._store.read(read, self._options.meta_ttl_s) for read in reads]

    def put(self, name: str, value: bytes, ttl_s: float) -> None:
        self._store.put(name, value, ttl_s)

    def close(self) -> None:
        """Nothing is open."""
