"""A client's stay: what it hears, the hooks at its beginning and at its end, once each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode
from django.core.exceptions import PermissionDenied

from ...codes import Disconnects
from ...engine import Engine
from .connection import Ear, EventConnection
from .registry import EventModule, call
from .words import Deny

if TYPE_CHECKING:
    from .socket import EventSocket

logger = logging.getLogger("redis_pubsub.events")

_LOST = 1006
_LAST_HOOKS_S = 10.0
"""How long the hooks of sockets that end with the process may take."""


class Lifetimes:
    """Owns the ends of an engine's event sockets: none is lost when the process stops.

    Attributes:
        settled: Set while no client is in the middle of its open hooks; for tests.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opening = 0
        self.settled = asyncio.Event()
        self.settled.set()
        self._tasks: set[asyncio.Task[None]] = set()
        engine.closing.push_async_callback(self._finish)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """While a client comes in."""
        self._opening += 1
        self.settled.clear()
        try:
            yield
        finally:
            self._opening -= 1
            if not self._opening:
                self.settled.set()

    def start(self, end: Any) -> asyncio.Task[None]:
        """Run a socket's end in a task."""
        task = asyncio.create_task(end, name="redis-pubsub-event-close")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._engine.metrics.count("event_hook_errors")
            logger.error("ending an event socket failed", exc_info=task.exception())

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=_LAST_HOOKS_S)
            for task in late:
                self._engine.metrics.count("event_hooks_cancelled")
                task.cancel()
            if late:
                logger.warning("%d on_close hook(s) did not end in time", len(late))
                await asyncio.wait(late, timeout=1)


class Lifetime:
    """One connection's."""

    def __init__(
        self, endpoint: EventSocket, connection: EventConnection, engine: Engine
    ) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._engine = engine
        self._lifetimes: Lifetimes = engine.part(Lifetimes)
        limit_bytes = engine.config.limits.send_buffer_bytes
        self._ear = Ear(connection.ws, limit_bytes, self._too_slow)
        self._channels: list[str] = []
        self._greeted: list[EventModule] = []
        self._opening: asyncio.Task[None] | None = None

    async def begin(self) -> bool:
        """Hear what is emitted, then run the open hooks; whether the client may stay.

        Raises:
            BrokerUnavailable: Redis did not confirm in time.
        """
        with self._lifetimes.opening():
            return await self._begin()

    async def _begin(self) -> bool:
        hub = self._engine.hub
        self._channels = self._endpoint.addresses(self._connection)
        await asyncio.gather(*(hub.listen(each, self._ear) for each in self._channels))
        # Its own task: a hook that has begun is not cut off when the client leaves.
        self._opening = asyncio.create_task(self._open())
        try:
            await asyncio.shield(self._opening)
        except (Deny, PermissionDenied) as error:
            refused = error if isinstance(error, Deny) else Deny()
            self._engine.metrics.count("event_sockets_denied")
            # Begun here and ended with the connection: no hook waits for a client's answer.
            self._connection.ws.close(code=refused.code, message=refused.reason)
            return False
        self._ear.open()
        for channel in self._channels:
            hub.renew(channel, self._ear)
        return True

    def _too_slow(self) -> None:
        """More was emitted than may wait while the open hooks take their time."""
        self._engine.metrics.count("slow_disconnects")
        self._connection.ws.abandon(Disconnects.SLOW.code, Disconnects.SLOW.reason)

    async def _open(self) -> None:
        for module in self._endpoint.modules:
            subject = self._endpoint.subject(module, self._connection)
            for hook in module.open_hooks:
                await call(self._engine.orm, hook, subject)
            self._greeted.append(module)

    def end(self) -> asyncio.Task[None]:
        """Hear nothing more and run the close hooks, in a task that outlives its caller."""
        return self._lifetimes.start(self._end())

    async def _end(self) -> None:
        for channel in self._channels:
            self._engine.hub.leave(channel, self._ear)
        if self._opening is not None and not self._opening.done():
            _, late = await asyncio.wait(
                [self._opening], timeout=self._engine.config.limits.handler_grace_s
            )
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        if self._opening is not None and not self._opening.cancelled():
            # Told to the connection already, unless that was ended meanwhile.
            self._opening.exception()
        code = _close_code(self._connection)
        for module in reversed(self._greeted):
            subject = self._endpoint.subject(module, self._connection)
            for hook in module.close_hooks:
                await self._close(hook, subject, code)

    async def _close(self, hook: Any, subject: Any, code: int) -> None:
        try:
            await call(self._engine.orm, hook, subject, code)
        except Exception:
            # The other hooks run all the same.
            self._engine.metrics.count("event_hook_errors")
            logger.exception("%s failed", getattr(hook, "__qualname__", hook))


def _close_code(connection: EventConnection) -> int:
    """Ours, else the client's; 1006 for a connection that was lost."""
    ws = connection.ws
    code = ws.closed_with or ws.left_with
    return code or (_LOST if ws.is_closing else WSCloseCode.INTERNAL_ERROR)
