"""What every reader is: one listener of the hub, with a future that ends with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from ..engine import Engine
from ..exceptions import InactiveSubscription
from ..messages import Message, check_channel_name
from .delivery import on_loop

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ..hub.viewers import Viewer
    from ..models import Channel, Subscription
    from .manager import SubscriptionManager

logger = logging.getLogger("redis_pubsub.readers")


class Reader:
    """Base of `ChannelReader` and `FrameReader`.

    Args:
        channel_name: Which channel to hear.
        subscription: The row it is heard for; ``None`` where a handler decided by itself.
        manager: Its owner; without one it gets a manager of its own at `listen`.

    Raises:
        InvalidChannelName: The name is none, or one of this package's own.

    Attributes:
        future: Done when the reader has ended; ``None`` before `listen`.
    """

    def __init__(
        self,
        channel_name: str,
        subscription: Subscription | None = None,
        manager: SubscriptionManager | None = None,
    ) -> None:
        self.channel_name = check_channel_name(channel_name)
        self.subscription = subscription
        self.manager = manager
        self.future: asyncio.Future[None] | None = None
        self.on_position_lost: Callable[[str], Any] | None = None
        self.engine: Engine | None = None
        self._is_heard = False
        self._viewer: Viewer | None = None

    @property
    def subscriber(self) -> AbstractBaseUser | None:
        """The user it reads for."""
        return self.subscription.subscriber if self.subscription else None

    @property
    def channel(self) -> Channel | None:
        """The channel's row."""
        return self.subscription.channel if self.subscription else None

    @property
    def connection_id(self) -> str:
        return self.manager.connection_id if self.manager else ""

    @property
    def viewer(self) -> Viewer | None:
        """Whose eyes it has, on channels where not everybody sees alike: its
        subscriber's, else its manager's user's."""
        if self._viewer is None and self.engine is not None:
            subscription = self.subscription
            if subscription is None:
                return None if self.manager is None else self.manager.viewer
            # Not fetched here, on the event loop, if it was not yet.
            user = subscription._state.fields_cache.get("subscriber")
            pk = str(subscription.subscriber_id)
            self._viewer = self.engine.hub.viewers.add(user, pk)
        return self._viewer

    def forget_audiences(self) -> None:
        """What its user may see has perhaps changed: ask anew, before anything more that
        depends on it is delivered."""
        if self._viewer is not None:
            self._viewer.forget()

    @property
    def is_active(self) -> bool:
        """Whether messages arrive: Redis has confirmed it, and is connected."""
        return (
            self.is_listening
            and self._is_heard
            and self.engine is not None
            and self.engine.hub.broker.is_connected
        )

    @property
    def has_ended(self) -> bool:
        """Whether it was started and is over."""
        return self.future is not None and self.future.done()

    @property
    def is_listening(self) -> bool:
        """Whether it was started and has not ended."""
        return self.future is not None and not self.future.done()

    async def get_manager(self) -> SubscriptionManager:
        """The manager, made now if there is none."""
        if self.manager is None:
            from .manager import SubscriptionManager

            self.manager = SubscriptionManager()
        self.manager.add(self)
        return self.manager

    async def listen(self) -> asyncio.Future[None]:
        """Start; on return a message published now will be heard.

        Returns:
            A future that is done when the reader ends. Cancelling it ends the reader,
            awaiting it waits for that.

        Raises:
            BrokerUnavailable: Redis did not confirm in time.
            InactiveSubscription: The subscription is turned off.
            ReaderExists: The manager reads this channel already.
        """
        if self.subscription is not None and not self.subscription.active:
            raise InactiveSubscription(self.channel_name)
        manager = await self.get_manager()
        self.engine = engine = await manager.get_engine()
        if self.future is not None and not self.future.done():
            # Somebody else has started it and may still be waiting for Redis.
            await engine.hub.confirmed(self.channel_name)
            return self.future
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.future, self._is_heard = future, False
        future.add_done_callback(self._ended)
        try:
            await self._hear(engine)
        except BaseException:
            future.cancel()
            raise
        self._is_heard = True
        manager.listening(self)
        return future

    async def _hear(self, engine: Engine) -> None:
        """Let the hub feed this reader, behind what its channel shows to who is new."""
        listener: Any = self
        replay = engine.config.model_channel_options(self.channel_name).replay
        if not replay:
            await engine.hub.listen(self.channel_name, listener)
            return
        async with engine.hub.admission(self.channel_name) as admission:
            await admission.prepare(replay=replay)
            if not self.is_listening:
                # Ended while the history was read: nobody would take it out of the hub.
                return
            past = admission.admit(listener)
            mine = self.connection_id
            # What each audience sees in its own way would have to be rendered first, and
            # live messages would overtake it.
            shown = [message for message in past.missed if not message.is_judged]
            self._replay([m for m in shown if not mine or m.header.exclude != mine])

    def _replay(self, messages: list[Message]) -> None:
        """Take what was said before this reader came."""
        raise NotImplementedError

    def stop(self, error: Exception | None = None) -> None:
        """End the reader, from any thread; its future is done, or raises ``error``."""
        if self.engine is not None:
            on_loop(self.engine.loop, self._stop, error)

    def _stop(self, error: Exception | None) -> None:
        if self.future is not None and not self.future.done():
            # Before anybody who awaits the future goes on.
            self._leave()
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)
                # Retrieved here: who does not await the future need not hear of it.
                self.future.exception()

    def position_lost(self, channel: str) -> None:
        """Messages may have been missed; tells ``on_position_lost`` if it is set."""
        if self.on_position_lost is not None:
            self.on_position_lost(channel)

    def _ended(self, future: asyncio.Future[None]) -> None:
        # A reader that listens again has another future by now.
        if future is self.future:
            self._leave()

    def _leave(self) -> None:
        if self.engine is not None:
            self.engine.hub.leave(self.channel_name, self)  # type: ignore[arg-type]
        if self.manager is not None:
            self.manager.forget(self)


async def start_all(readers: Iterable[Reader]) -> list[Reader]:
    """Start readers side by side; one round trip for all of them."""
    started = list(readers)
    await asyncio.gather(*(reader.listen() for reader in started))
    return started


class Started:
    """Something under way that may be awaited, or not: an error is logged once."""

    def __init__(self, task: asyncio.Future[Any]) -> None:
        self._task = task
        self._is_awaited = False
        task.add_done_callback(self._done)

    def __await__(self) -> Generator[Any, None, Any]:
        self._is_awaited = True
        return self._task.__await__()

    # For `yield from` in generator coroutines.
    __iter__ = __await__

    def _done(self, task: asyncio.Future[Any]) -> None:
        if not task.cancelled() and task.exception() is not None and not self._is_awaited:
            logger.error(
                "readers could not be started, or did not catch up",
                exc_info=task.exception(),
            )
