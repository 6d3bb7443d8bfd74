"""The readers of one owner, usually one socket: started, found and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..auth.personal import Personal
from ..engine import Engine, borrow_engine, return_engine
from ..exceptions import PubSubError, ReaderExists
from ..frames import Framing, payload_frame
from ..hub.viewers import Viewer
from ..models import Channel, Subscription
from .base import Reader, Started, start_all
from .catchup import checked_limit
from .following import Following
from .reader import Callback, ChannelReader, FrameReader

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.readers")


class SubscriptionManager:
    """Owns readers.

    Args:
        engine: What serves this loop; found at first use if not given.
        connection_id: Id of the connection it belongs to.
        owner: What log lines call it: a handler's name.
        on_overflow: Told when a reader could not keep up.
        user: Whose eyes readers without a subscription have; ``None`` for nobody.

    Attributes:
        readers: Channel name to reader; one reader a channel.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        connection_id: str = "",
        owner: str = "",
        on_overflow: Callable[[PubSubError], None] | None = None,
        user: AbstractBaseUser | None = None,
    ) -> None:
        self.readers: dict[str, Reader] = {}
        self.connection_id = connection_id
        self.owner = owner
        self.user = user
        self._viewer: Viewer | None = None
        self._engine = engine
        self._on_overflow = on_overflow
        self._has_borrowed = False
        self._is_closed = False
        self._starting: set[asyncio.Future[Any]] = set()
        self._following = Following(self, self._begin)

    @property
    def closed(self) -> bool:
        """Whether `stop` was called."""
        return self._is_closed

    @property
    def viewer(self) -> Viewer | None:
        """Its user, as channels see him on which not everybody sees alike."""
        if self._viewer is None and self._engine is not None:
            self._viewer = self._engine.hub.viewers.add(self.user)
        return self._viewer

    def forget_audiences(self) -> None:
        """What its users may see has perhaps changed: ask anew, before anything more that
        depends on it is delivered."""
        if self._viewer is not None:
            self._viewer.forget()
        for reader in self.readers.values():
            reader.forget_audiences()

    @property
    def engine(self) -> Engine | None:
        """What serves this loop, if that was needed already; see `get_engine`."""
        return self._engine

    async def get_engine(self) -> Engine:
        """What serves this loop, started now if nothing did."""
        if self._engine is None:
            engine = await borrow_engine()
            if self._engine is None:
                self._engine, self._has_borrowed = engine, True
            else:
                # Another of this manager's readers was faster: one is returned in the end.
                await return_engine(engine)
        return self._engine

    def add(self, *readers: Reader) -> None:
        """Own readers without starting them.

        Raises:
            ReaderExists: One of their channels has another reader here.
        """
        if self._is_closed:
            raise RuntimeError("this manager was stopped")
        for reader in readers:
            known = self.readers.get(reader.channel_name)
            if known is not None and known is not reader and not known.has_ended:
                raise ReaderExists(reader.channel_name)
        for reader in readers:
            reader.manager = self
            self.readers[reader.channel_name] = reader

    async def remove(self, reader: Reader) -> None:
        """End a reader: its future is cancelled, its channel left."""
        future = reader.future
        if future is not None and not future.done():
            future.cancel()
        self.forget(reader)
        # Lets the future's own callbacks run, so that nothing arrives from here on.
        await asyncio.sleep(0)

    async def clear(self) -> None:
        """`remove` every reader."""
        readers = list(self.readers.values())
        await asyncio.gather(*(self.remove(reader) for reader in readers))

    async def wait_closed(self) -> None:
        """Wait for what `listen_to_all_subscriptions` still has under way."""
        if self._starting:
            await asyncio.wait(self._starting)

    async def stop(self) -> None:
        """End every reader and own nothing more; idempotent.

        Other managers, sockets and the connection to Redis are not touched.
        """
        self._is_closed = True
        for task in self._starting:
            task.cancel()
        await self.clear()
        await self.wait_closed()
        self._following.stop()
        if self._has_borrowed and self._engine is not None:
            self._has_borrowed = False
            await return_engine(self._engine)

    def listen_to_all_subscriptions(
        self,
        subscriber: AbstractBaseUser,
        callback: Callback,
        *,
        catch_up: bool = False,
        catch_up_limit: int | None = None,
    ) -> Awaitable[list[Reader]]:
        """Hear every channel a user is actively subscribed to, and those to come.

        Starts at once; await the result to know that all are heard.

        Args:
            subscriber: The user.
            callback: Gets what is published.
            catch_up: First hand over what the user missed of models with
                ``TRACK_DELIVERY``, oldest first; awaiting the result waits for that too.
            catch_up_limit: How many publications at most, the oldest;
                ``limits["catch_up_messages"]`` by default.

        Returns:
            An awaitable of the readers; one Redis round trip for all of them.
        """

        def make(subscription: Subscription) -> Reader:
            reader = ChannelReader(subscription, self).callback(callback)
            if catch_up:
                reader.hold()
            return reader

        limit = checked_limit(catch_up_limit)
        return self._begin(self._following.follow(str(subscriber.pk), make, limit))

    def forward_all_subscriptions(
        self, ws: Any, subscriber: AbstractBaseUser, *, framing: Framing = payload_frame
    ) -> Awaitable[list[Reader]]:
        """`listen_to_all_subscriptions` without a callback: straight to the socket, as
        `forward` does."""

        def make(subscription: Subscription) -> Reader:
            return self._framed(ws, subscription, framing)

        return self._begin(self._following.follow(str(subscriber.pk), make))

    async def refresh(self, subscriber: AbstractBaseUser) -> None:
        """Make this manager's readers match a user's subscriptions now, rather than when
        the change has come round."""
        await self._following.refresh(str(subscriber.pk))

    def forward(
        self,
        ws: Any,
        *channels: str | Channel | Subscription,
        framing: Framing = payload_frame,
    ) -> Awaitable[list[Reader]]:
        """Send channels straight to a socket: no callback, nothing per message and socket
        but the write. Starts at once.

        The handler decides who may hear a name; a `Subscription` is heard while it is
        active.

        Args:
            ws: The handler's socket.
            channels: Names, rows, or subscriptions.
            framing: Makes a frame of a message; by default a text frame with the payload.
        """
        readers = [self._framed(ws, channel, framing) for channel in channels]
        self.add(*readers)
        return self._begin(start_all(readers))

    def listen_to_personal_channels(
        self,
        user: AbstractBaseUser | None,
        callback: Callback,
        *,
        session_key: str = "",
    ) -> Awaitable[list[Reader]]:
        """Hear what is sent to a user, his groups, his session and everybody, as
        `redis_pubsub.publish_to` does and each live connection hears it. Starts at once.

        Args:
            user: ``None`` for nobody.
            callback: Gets what is published.
            session_key: Of Django's session, for what is sent to that.
        """
        return self._begin(
            self._personal(
                user,
                session_key,
                lambda name: ChannelReader(name, self).callback(callback),
            )
        )

    def forward_personal_channels(
        self,
        ws: Any,
        user: AbstractBaseUser | None,
        *,
        session_key: str = "",
        framing: Framing = payload_frame,
    ) -> Awaitable[list[Reader]]:
        """`listen_to_personal_channels` without a callback: straight to the socket, as
        `forward` does."""
        return self._begin(
            self._personal(user, session_key, lambda name: self._framed(ws, name, framing))
        )

    async def _personal(
        self,
        user: AbstractBaseUser | None,
        session_key: str,
        make: Callable[[str], Reader],
    ) -> list[Reader]:
        engine = await self.get_engine()
        personal = Personal(engine.config.live_options.personal_channels, engine.orm)
        names = await personal.channels(user, session_key)
        readers = [make(name) for name in names if name not in self.readers]
        self.add(*readers)
        return await start_all(readers)

    def _framed(
        self, ws: Any, channel: str | Channel | Subscription, framing: Framing
    ) -> FrameReader:
        """A reader that brings a channel straight to a socket."""
        subscription = channel if isinstance(channel, Subscription) else None
        # Whether a socket's client is behind, if it can say.
        is_full: Callable[[], bool] | None = getattr(ws, "is_full", None)
        name = _name_of(channel)
        return FrameReader(name, ws.write_frames, framing, subscription, self, is_full)

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> Started:
        task = asyncio.ensure_future(coroutine)
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return Started(task)

    # -- what readers and the engine tell --------------------------------------------

    def listening(self, reader: Reader) -> None:
        """A reader has started: hear of changes to its subscription."""
        if self._is_closed:
            # Stopped while the reader was starting.
            reader.stop()
        else:
            self._following.listening(reader)

    def forget(self, reader: Reader) -> None:
        """A reader has ended."""
        if self.readers.get(reader.channel_name) is reader:
            del self.readers[reader.channel_name]
        self._following.forget(reader)

    def overflowed(self, error: PubSubError) -> None:
        """A reader could not keep up."""
        logger.warning("%s%s", error, f" ({self.owner})" if self.owner else "")
        if self._on_overflow is not None:
            self._on_overflow(error)


def _name_of(channel: str | Channel | Subscription) -> str:
    if isinstance(channel, Subscription):
        return channel.channel.name
    return channel if isinstance(channel, str) else channel.name
