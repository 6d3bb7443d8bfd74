"""Readers: callbacks and iteration, or frames straight to a socket."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from django.apps import apps

from ..exceptions import NoCallback, ReaderTooSlow
from ..frames import Framing, payload_frame
from ..hub.lossy import DROP, LATEST, Tap
from ..messages import Message
from .base import Reader
from .catchup import Backlog, checked_limit, hand_missed
from .delivery import Deliveries, is_async
from .values import UNREADABLE, SharedValue, share

if TYPE_CHECKING:
    from django.db.models import Model

    from ..models import Subscription
    from .manager import SubscriptionManager

Callback = Callable[[str, Any], Any]


class ChannelReader(Reader):
    """Hands the messages of a subscription's channel to callbacks, in order.

    A callback gets ``(channel_name, value)``: the model instance, or the payload where it
    is no model. A plain function runs in a database thread and may query; an
    ``async def`` runs on the loop. Returning ``False`` ends the reader, anything else
    goes on. An exception is logged and the reader goes on.

    Args:
        subscription: Whose channel, for whom; or the channel's name, where the handler
            decides by itself who may hear it.
        manager: Its owner.
    """

    framing = None

    def __init__(
        self,
        subscription: Subscription | str,
        manager: SubscriptionManager | None = None,
    ) -> None:
        if isinstance(subscription, str):
            super().__init__(subscription, None, manager)
        else:
            super().__init__(subscription.channel.name, subscription, manager)
        self.callbacks: list[Callback] = []
        self._waiting: deque[Message] = deque()
        self._is_busy = False
        self._arrived: asyncio.Event | None = None
        self._backlog: Backlog | None = None

    def callback(self, function: Callback) -> ChannelReader:
        """Add a callback; usable as a decorator. Returns the reader."""
        if not callable(function):
            raise TypeError(f"a callback is a function, not {function!r}")
        if inspect.isgeneratorfunction(function):
            function = types.coroutine(function)
        self.callbacks.append(function)
        return self

    __call__ = callback

    @property
    def is_plain(self) -> bool:
        """Whether every callback is a plain function."""
        return not any(is_async(function) for function in self.callbacks)

    async def listen(self) -> asyncio.Future[None]:
        """See `Reader.listen`.

        Raises:
            NoCallback: Nobody would take the messages.
        """
        if not self.callbacks and self._arrived is None:
            raise NoCallback(self.channel_name)
        return await super().listen()

    def _replay(self, messages: list[Message]) -> None:
        self.offer(messages)

    def offer(self, messages: list[Message]) -> None:
        """Called by the hub."""
        if not self.is_listening:
            return
        engine = self.engine
        assert engine is not None, "set by listen()"
        if self._backlog is not None and not self._backlog.is_open:
            messages = self._backlog.news(messages)
        self._waiting.extend(messages)
        limit = engine.config.limits.reader_messages
        if len(self._waiting) > limit:
            engine.metrics.count("slow_readers")
            self._waiting.clear()
            error = ReaderTooSlow(self.channel_name, limit)
            if self.manager is not None:
                self.manager.overflowed(error)
            self.stop(error)
        elif self._arrived is not None:
            self._arrived.set()
        else:
            self._go_on()

    def take(self) -> list[SharedValue]:
        """Everything that waits, for one delivery; empty when the reader has ended."""
        due = self._due
        if not self.is_listening:
            due.clear()
        values = [share(message) for message in due]
        due.clear()
        return values

    def delivered(self, is_wanted: bool) -> None:
        """A delivery is over; the next one may begin."""
        self._is_busy = False
        if not is_wanted:
            self.stop()
        else:
            self._go_on()
        if self._backlog is not None:
            self._backlog.changed.set()

    @property
    def _due(self) -> deque[Message]:
        return self._backlog.missed if self.is_held else self._waiting  # type: ignore[union-attr]

    def _go_on(self) -> None:
        if self._due and not self._is_busy and self.is_listening:
            self._is_busy = True
            assert self.engine is not None, "set by listen()"
            self.engine.part(Deliveries).due(self)

    # -- catching up -----------------------------------------------------------------

    async def catch_up(self, limit: int | None = None) -> int:
        """Hand the callbacks what the user missed here, before anything live.

        Starts the reader if it does not listen. Call it again for more than the limit.
        A callback of this reader must not await it.

        Args:
            limit: How many publications at most, the oldest;
                ``limits["catch_up_messages"]`` by default.

        Returns:
            How many; 0 where a catch-up was under way, for which this has waited.

        Raises:
            NoCallback: Nobody would take them.
            Exception: The database's. The reader listens all the same.
        """
        checked_limit(limit)
        if not self.callbacks:
            raise NoCallback(self.channel_name)
        if self._backlog is not None and self._backlog.is_open:
            await self.caught_up()
            return 0
        self.hold()
        try:
            if not self.is_listening:
                await self.listen()
        except BaseException:
            self.release()
            raise
        assert self.engine is not None, "set by listen()"
        most = self.engine.config.limits.catch_up_messages if limit is None else limit
        return await hand_missed(self.engine, [self], most)

    @property
    def is_held(self) -> bool:
        """Whether live messages wait for those that were missed."""
        return self._backlog is not None and self._backlog.is_open

    def hold(self) -> None:
        """Keep live messages until `release`."""
        known = self._backlog
        self._backlog = Backlog(known)

    def hand(self, message: Message) -> bool:
        """Deliver a missed message before the live ones; says whether it still can."""
        if self._backlog is None or not self.is_held or not self.is_listening:
            return False
        self._backlog.add(message)
        self._go_on()
        return True

    async def handed_over(self) -> None:
        """Wait until the callbacks have returned, or the reader has ended."""
        backlog = self._backlog
        while backlog is not None and self.is_listening and self._is_busy:
            backlog.changed.clear()
            await backlog.changed.wait()

    async def caught_up(self) -> None:
        """Wait until live messages are let through; raises, once, why nothing came."""
        backlog = self._backlog
        if backlog is not None:
            await backlog.over.wait()
            error, backlog.error = backlog.error, None
            if error is not None:
                raise error

    def release(self, error: Exception | None = None) -> None:
        """Go on with what waited and is news."""
        if self._backlog is not None and self._backlog.is_open:
            self._backlog.error = error
            self._waiting = self._backlog.switch(self._waiting)
            self._go_on()

    def _leave(self) -> None:
        super()._leave()
        if self._backlog is not None:
            self._backlog.end()
            self._backlog = None

    async def __aiter__(self) -> AsyncIterator[Any]:
        """The values, one by one; ends with the reader."""
        if self.callbacks:
            raise TypeError("this reader has callbacks; it cannot be iterated as well")
        self._arrived = arrived = asyncio.Event()
        try:
            future = await self.listen()
            future.add_done_callback(lambda _: arrived.set())
            assert self.engine is not None, "set by listen()"
            while not future.done():
                await arrived.wait()
                arrived.clear()
                for shared in self.take():
                    value = await shared.get(self.engine)
                    if value is not UNREADABLE:
                        yield value
            if not future.cancelled():
                future.result()
        finally:
            self._arrived = None
            self.stop()

    @staticmethod
    def get_model_instance(app_label: str, object_name: str, pk: Any) -> Model:
        """Fetch a row; kept from 1.0, where every delivery did."""
        row: Model = apps.get_model(app_label, object_name)._default_manager.get(pk=pk)
        return row


class FrameReader(Reader):
    """Writes a channel's messages to a socket as ready-made frames: no callback, no
    Python per message and socket.

    Args:
        channel_name: Which channel.
        write: Takes the bytes of one or more frames.
        framing: Makes a frame of a message; shared by all sockets that use it.
        is_full: Whether the socket's client is behind.
    """

    def __init__(
        self,
        channel_name: str,
        write: Callable[[bytes], None],
        framing: Framing = payload_frame,
        subscription: Subscription | None = None,
        manager: SubscriptionManager | None = None,
        is_full: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(channel_name, subscription, manager)
        self.framing = framing
        self.write = write
        self._is_full = is_full
        self._tap: Tap | None = None

    async def listen(self) -> asyncio.Future[None]:
        """See `Reader.listen`; a slow socket gets what the channel option ``slow`` says."""
        manager = await self.get_manager()
        engine = await manager.get_engine()
        policy = engine.config.channel_options(self.channel_name).slow
        if policy in (LATEST, DROP) and self._is_full is not None and self._tap is None:
            self._tap = engine.hub.tap(
                self.channel_name,
                policy,
                framing=self.framing,
                write=self.write,
                is_full=self._is_full,
                on_gap=functools.partial(self.position_lost, self.channel_name),
                connection_id=self.connection_id,
            )
            self.write = self._tap.write
        return await super().listen()

    def _replay(self, messages: list[Message]) -> None:
        if messages:
            self.write(b"".join(map(self.framing, messages)))

    def _leave(self) -> None:
        if self._tap is not None and self.engine is not None:
            self.engine.hub.taps.forget(self._tap)
        super()._leave()
