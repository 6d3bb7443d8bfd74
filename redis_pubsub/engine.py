"""What one event loop serves with: broker, hub, database door, control channel.

An aiohttp application starts one for its life; without an application (a script, a
test) the first reader starts one for its loop.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from .broker import open_broker
from .conf import Config, get_config
from .db import Orm
from .hub import Hub
from .hub.presence import Presence
from .messages import CONTROL_CHANNEL, Message
from .metrics import MAX, Gauge, Gauges, Metrics
from .rounds import Rounds
from .watchdog import LoopWatchdog
from .wire import Envelope

logger = logging.getLogger("redis_pubsub.engine")


class ControlEvent(msgspec.Struct, omit_defaults=True):
    """Something that serving processes should look at again.

    Attributes:
        kind: ``subscriptions`` or ``refresh`` (of these users: what they may hear may have
            changed), ``disconnect``, ``unsubscribe``, ``send``, or ``all`` after events
            were missed.
        users: Primary keys as text.
        client: Id of one connection, instead of users.
        digest: Of the session key or token by which a connection was let in
            (`redis_pubsub.auth.standing.digest_of`): of these users' connections only
            that one's, or without users of anybody's.
        channel: What is unsubscribed.
        code: Close code of a disconnect.
        reason: What its client is told.
        data: What is sent to one connection, as JSON.
    """

    kind: str
    users: list[str] = []
    client: str = ""
    digest: str = ""
    channel: str = ""
    code: int = 0
    reason: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Control:
    """Feeds control events to those who hold what they speak of."""

    framing = None
    connection_id = ""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._decoder = msgspec.json.Decoder(ControlEvent)
        self.handlers: list[Callable[[ControlEvent], None]] = []

    def offer(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                event = self._decoder.decode(message.raw)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                self._metrics.count("malformed_messages")
            else:
                self._tell(event)

    def position_lost(self, channel: str) -> None:
        self._tell(ControlEvent(kind="all"))

    def _tell(self, event: ControlEvent) -> None:
        for handler in self.handlers:
            try:
                handler(event)
            except Exception:
                self._metrics.count("control_errors")
                logger.exception("handling %r failed", event)


class Engine:
    """Owned by whoever starts it; everything in it ends with `close`.

    Attributes:
        config: The settings it was started with.
        metrics: This process's counters.
        gauges: Numbers that go up and down; every part may add its own.
        hub: Feeds listeners.
        node: This engine's own id.
        presence: Who is on which channel, and this engine's own members.
        orm: Runs blocking database work.
        control: Feeds control events.
        rounds: Has everything looked at again now and then.
        audiences: Says who sees what on channels where that differs.
        parts: What upper floors attach, by their own type; see `part`.
    """

    def __init__(self, config: Config, *, in_test_thread: bool = False) -> None:
        self.config = config
        self.metrics = Metrics()
        self.orm = Orm(
            config.db_threads, config.limits.db_waiting, in_test_thread=in_test_thread
        )
        # Not before there are models: this module is imported earlier.
        from .audiences import Audiences

        self.audiences = Audiences(config, self.orm, self.metrics)
        options = config.broker_options()
        self.hub = Hub(
            open_broker(options, self.metrics),
            self.metrics,
            Envelope(options.envelope_key),
            recovery_messages=config.limits.recovery_messages,
            keeps_history=lambda each: config.model_channel_options(each).has_history,
            judge=self.audiences,
        )
        self.audiences.bind(self.hub.viewers)
        self.node = uuid.uuid4().hex[:12]
        self.presence = Presence(self.hub.broker, self.metrics, self.node)
        self.control = Control(self.metrics)
        self.rounds = Rounds(config.limits.recheck_s, self.metrics)
        self.control.handlers.append(self.audiences.heard)
        self.watchdog = LoopWatchdog(config.limits.loop_block_s, self.metrics)
        self.gauges = Gauges()
        self._show()
        self.loop = asyncio.get_running_loop()
        self.closing = AsyncExitStack()
        self._parts: dict[type[Any], Any] = {}
        self._borrowers = 0
        self._is_borrowed = False
        self._starting: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect in the background and become the loop's engine."""
        self.watchdog.start()
        await self.hub.start()
        self.rounds.start()
        self._watch = asyncio.create_task(self._hear_control(), name="redis-pubsub-control")
        _engines[self.loop] = self

    async def close(self) -> None:
        """Give everything back; idempotent."""
        if _engines.get(self.loop) is self:
            del _engines[self.loop]
        self.watchdog.close()
        self.rounds.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        try:
            await self.closing.aclose()
        except Exception:
            # The others' ends were run all the same; Redis and threads are given back too.
            logger.exception("a part of the engine could not be closed")
        await self.presence.close()
        await self.hub.close()
        self.orm.close()
        await self.orm.wait_closed()

    def _show(self) -> None:
        hub, orm = self.hub, self.orm
        for gauge in (
            Gauge("channels", "Channels a process listens to", lambda: len(hub)),
            Gauge(
                "hub_backlog_bytes",
                "Messages that arrived and are not handed on yet",
                lambda: hub.backlog_bytes,
            ),
            Gauge("orm_waiting", "Database calls that wait", lambda: orm.waiting),
            Gauge(
                "loop_lag_seconds",
                "How late timers of the event loop come",
                lambda: self.watchdog.lag_s,
                MAX,
            ),
        ):
            self.gauges.add(gauge)

    def part(self, kind: type[Any]) -> Any:
        """The one object of an upper floor's class in this engine, made at first use
        by ``kind(engine)``."""
        if kind not in self._parts:
            self._parts[kind] = kind(self)
        return self._parts[kind]

    async def _hear_control(self) -> None:
        """Listen to the control channel, however long Redis needs to be there."""
        while True:
            try:
                await self.hub.listen(CONTROL_CHANNEL, self.control)
            except Exception:
                self.metrics.count("control_errors")
                logger.warning("the control channel is not heard yet; trying again")
                await asyncio.sleep(1)
            else:
                # What changed before this moment was not heard.
                self.control.position_lost(CONTROL_CHANNEL)
                return


# A loop has at most one engine. The table is what makes `subscription.get_reader()` work
# without handing the engine through user code; it forgets loops that are gone.
_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, Engine] = WeakKeyDictionary()


async def borrow_engine() -> Engine:
    """The running loop's engine, started now if there is none; `return_engine` it.

    One that was started here ends with its last borrower, an application's does not.
    """
    engine = current_engine()
    if engine is None:
        engine = Engine(get_config())
        engine._is_borrowed = True
        # Before it has started: who comes meanwhile waits for the same one.
        _engines[engine.loop] = engine
        engine._starting = asyncio.ensure_future(engine.start())
    engine._borrowers += 1
    if engine._starting is not None:
        try:
            await asyncio.shield(engine._starting)
        except BaseException:
            await return_engine(engine)
            raise
    return engine


async def return_engine(engine: Engine) -> None:
    """A borrower needs it no more."""
    engine._borrowers -= 1
    if engine._is_borrowed and engine._borrowers == 0:
        await engine.close()


def current_engine() -> Engine | None:
    """The engine of the running loop, if one was started."""
    return _engines.get(asyncio.get_running_loop())
