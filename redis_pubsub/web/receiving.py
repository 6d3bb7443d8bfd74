"""Runs a site's receivers in one serving process.

A message goes to a lane of its own for each receiver and channel, so that their order is
kept and a slow receiver delays only itself. Lanes are bounded: what comes to a full one is
dropped and counted. A receiver that runs once in the cluster has no lane: each process
offers the message to a queue under its id, which takes it once, and workers inside the
serving processes run it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Raw, convert, to_builtins

from .. import codec
from ..consumers import Consumer, Job, Retry, job
from ..engine import Engine
from ..exceptions import BrokerUnavailable, PayloadTooLarge, QueueFull
from ..messages import Header, Message, Position, is_reserved
from ..metrics import Gauge, Occasionally
from ..receivers import Receiver, checked
from ..worker import Worker
from .local_sockets import Sockets

logger = logging.getLogger("redis_pubsub.receivers")

ONCE_AT_ONCE = 4
"""Jobs of receivers that run once in the cluster, in one process."""
_AGAIN_S = (0.1, 2.0)
_HEAD_BYTES = 16_384
"""What a job has around the message that it carries."""


class Receiving:
    """The receivers of one engine; ends with it. Made by ``engine.part(Receiving)``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._limit = engine.config.limits.reader_messages
        self._receivers: list[Receiver] = []
        self._lanes: dict[tuple[Receiver, str], Lane] = {}
        self._names: list[_Name] = []
        self._listening: asyncio.Task[None] | None = None
        self._worker: Worker | None = None
        self._may_log = Occasionally()

    def start(self, receivers: Iterable[Receiver]) -> None:
        """Begin to receive.

        Raises:
            HandlerConfigError: Two receivers have one name.
        """
        self._receivers = checked(receivers)
        if not self._receivers:
            return
        self._engine.gauges.add(
            Gauge(
                "receiver_backlog",
                "Messages that wait for receivers",
                lambda: sum(len(lane) for lane in self._lanes.values()),
            )
        )
        self._engine.hub.watchers.append(self._watch)
        exact = sorted({name for each in self._receivers for name in each.exact})
        self._names = [_Name(name, self._heard_exactly) for name in exact]
        self._listening = asyncio.create_task(self._listen(), name="redis-pubsub-receivers")
        once = [_OnceConsumer(each, self) for each in self._receivers if each.once]
        if once:
            self._worker = Worker(self._engine, once, concurrency=ONCE_AT_ONCE)
            self._worker.start()
        self._engine.closing.push_async_callback(self._close)

    async def _close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening], timeout=1)
        if self._watch in self._engine.hub.watchers:
            self._engine.hub.watchers.remove(self._watch)
        for name in self._names:
            self._engine.hub.leave(name.channel, name)
        if self._worker is not None:
            await self._worker.close()
        for lane in list(self._lanes.values()):
            await lane.close()

    async def _listen(self) -> None:
        """Hear the channels that are named, however long Redis needs to be there."""
        for name in self._names:
            while True:
                try:
                    await self._engine.hub.listen(name.channel, name)
                    break
                except BrokerUnavailable:
                    await asyncio.sleep(1)

    def sockets(self, channel: str) -> Sockets:
        """Those of this process that listen to a channel."""
        return Sockets(self._engine, channel)

    # -- what is heard -------------------------------------------------------------------

    def _watch(self, channel: str) -> Any:
        """The hub asks who wants to look on at a channel."""
        if is_reserved(channel):
            return None
        wanting = [
            each
            for each in self._receivers
            if channel not in each.exact and each.matches(channel)
        ]
        return functools.partial(self._offer, wanting) if wanting else None

    def _heard_exactly(self, channel: str, messages: Sequence[Message]) -> None:
        self._offer([each for each in self._receivers if channel in each.exact], messages)

    def _offer(self, receivers: Sequence[Receiver], messages: Sequence[Message]) -> None:
        for each in receivers:
            key = (each, messages[0].channel)
            lane = self._lanes.get(key)
            if lane is None:
                run = self._hand_over if each.once else self._run
                lane = self._lanes[key] = Lane(
                    functools.partial(run, each), functools.partial(self._emptied, key)
                )
            for message in messages:
                if len(lane) < self._limit:
                    lane.add(message)
                else:
                    self._dropped(each, message)

    def _emptied(self, key: tuple[Receiver, str]) -> None:
        del self._lanes[key]

    def _dropped(self, receiver: Receiver, message: Message) -> None:
        self._engine.metrics.count("receiver_dropped")
        if self._may_log(receiver):
            logger.error(
                "%s is behind by %d messages of %r; newer ones are dropped",
                receiver.path,
                self._limit,
                message.channel,
            )

    # -- what is done --------------------------------------------------------------------

    async def _run(self, receiver: Receiver, message: Message) -> None:
        try:
            await self.call(receiver, message, self._engine.orm)
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, GeneratorExit) or (task is not None and task.cancelling()):
                raise
            # SystemExit too: a receiver must not take the process along.
            self._engine.metrics.count("receiver_errors")
            logger.exception("%s failed on a message of %r", receiver.path, message.channel)

    async def call(self, receiver: Receiver, message: Message, orm: Any) -> None:
        """Call a receiver's function; what it raises, this does."""
        arguments = receiver.arguments(message, self.sockets(message.channel))
        if receiver.is_async:
            orm.adopt()
            await receiver.function(*arguments)
        else:
            await orm.run(receiver.function, *arguments)
        self._engine.metrics.count("received")

    async def _hand_over(self, receiver: Receiver, message: Message) -> None:
        """Put a message into a receiver's queue, unless another process did."""
        arguments = {
            "channel": message.channel,
            "header": to_builtins(message.header),
            "position": [message.position.epoch, message.position.offset],
            "payload": Raw(message.raw),
        }
        try:
            draft = job(receiver.queue, arguments, id=message.id, spare_bytes=_HEAD_BYTES)
        except PayloadTooLarge:
            self._dropped(receiver, message)
            return
        pause_s = _AGAIN_S[0]
        while True:
            try:
                (added,) = await self._engine.hub.broker.jobs.send([draft], once=True)
            except BrokerUnavailable:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(_AGAIN_S[1], 2 * pause_s)
                continue
            if isinstance(added, QueueFull):
                self._engine.metrics.count("queue_full")
                self._dropped(receiver, message)
            return


class Lane:
    """One receiver's messages of one channel, in order.

    Args:
        run: Called with each; must not raise.
        emptied: Called when nothing is left.
    """

    def __init__(self, run: Any, emptied: Any) -> None:
        self._run = run
        self._emptied = emptied
        self._waiting: deque[Message] = deque()
        self._task = asyncio.create_task(self._work(), name="redis-pubsub-receiver")

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message) -> None:
        self._waiting.append(message)

    async def close(self) -> None:
        """End it; what waits is not run."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=1)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._run(self._waiting[0])
                self._waiting.popleft()
        finally:
            self._emptied()


class _Name:
    """Listens to one channel for receivers that name it."""

    framing = None
    connection_id = ""

    def __init__(self, channel: str, heard: Any) -> None:
        self.channel = channel
        self._heard = heard

    def offer(self, messages: list[Message]) -> None:
        self._heard(self.channel, messages)

    def position_lost(self, channel: str) -> None:
        logger.warning("messages of %r may have been missed by its receivers", channel)


class _OnceConsumer(Consumer):
    """A receiver as workers see it."""

    def __init__(self, receiver: Receiver, receiving: Receiving) -> None:
        super().__init__([receiver.queue], receiver.function, Retry())
        self._receiver = receiver
        self._receiving = receiving

    async def run(self, job: Job) -> None:
        arguments = job.message.payload
        epoch, offset = arguments["position"]
        message = Message(
            arguments["channel"],
            convert(arguments["header"], Header),
            codec.encode(arguments["payload"]),
            Position(epoch, offset),
        )
        await self._receiving.call(self._receiver, message, job.orm)
