"""A manager's readers follow its users' subscriptions, in whichever process these change.

What the subscriptions are is read by `LiveSubscriptions`; the readers are the manager's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ..models import Subscription
from .base import Reader, start_all
from .catchup import hand_missed
from .live import LiveSubscriptions
from .reader import ChannelReader

if TYPE_CHECKING:
    from .manager import SubscriptionManager

MakeReader = Callable[[Subscription], Reader]


class Following:
    """Whose subscriptions one manager hears, and what it makes of them.

    Args:
        manager: Owns the readers.
        begin: Has the manager run something beside, and end it with itself.
    """

    def __init__(
        self,
        manager: SubscriptionManager,
        begin: Callable[[Coroutine[Any, Any, Any]], object],
    ) -> None:
        self._manager = manager
        self._begin = begin
        # Users all of whose subscriptions are read; users of whose changes it is told.
        self._followed: dict[str, MakeReader] = {}
        self._users: set[str] = set()
        self._made: set[Reader] = set()
        self._limits: dict[str, int | None] = {}

    async def follow(
        self, user: str, make: MakeReader, limit: int | None = None
    ) -> list[Reader]:
        """Read every active subscription of a user, now and later.

        Args:
            user: By primary key as text.
            make: Makes a reader of a subscription.
            limit: How much of what was missed is handed over at most; ``None`` for the
                setting's number.
        """
        await self._manager.get_engine()
        self._limits[user] = limit
        self._followed[user] = make
        self._watch(user)
        await self.refresh(user)
        readers = [
            reader
            for reader in self._manager.readers.values()
            if reader.subscription is not None
            and str(reader.subscription.subscriber_id) == user
        ]
        # A change that came meanwhile may be what starts some of them.
        await start_all(reader for reader in readers if reader in self._made)
        for reader in readers:
            if isinstance(reader, ChannelReader):
                await reader.caught_up()
        return readers

    async def refresh(self, user: str) -> None:
        """Make the readers match a user's subscriptions now."""
        await self._manager.get_engine()
        await self.apply(user, (await self._live().active_of([user]))[user])

    def listening(self, reader: Reader) -> None:
        """A reader has started: hear of changes to its subscription."""
        if reader.subscription is None:
            return
        user = str(reader.subscription.subscriber_id)
        self._watch(user)
        if user not in self._followed:
            # The row may have changed between being read and being watched.
            self._live().look_again(user)

    def forget(self, reader: Reader) -> None:
        """A reader has ended."""
        self._made.discard(reader)
        if reader.subscription is not None:
            self._unwatch(str(reader.subscription.subscriber_id))

    def stop(self) -> None:
        """Follow nobody any more."""
        self._followed.clear()
        for user in self._users:
            self._live().forget(user, self)
        self._users.clear()

    async def apply(self, user: str, active: dict[str, Subscription]) -> None:
        """Make the readers of a user match his active subscriptions (by channel name)."""
        if self._manager.closed:
            return
        for reader in list(self._manager.readers.values()):
            subscription = reader.subscription
            if (
                subscription is not None
                and str(subscription.subscriber_id) == user
                and reader.channel_name not in active
            ):
                subscription.active = False
                await self._manager.remove(reader)
        make = self._followed.get(user)
        if make is None or self._manager.closed:
            return
        added = []
        for name, subscription in active.items():
            if name not in self._manager.readers:
                reader = make(subscription)
                self._manager.add(reader)
                self._made.add(reader)
                added.append(reader)
        try:
            await start_all(added)
        finally:
            self._catch_up(user, added)

    def _catch_up(self, user: str, readers: list[Reader]) -> None:
        """Hand over what was missed, beside everybody else's readers being started."""
        held = [
            each for each in readers if isinstance(each, ChannelReader) and each.is_held
        ]
        engine = self._manager.engine
        if held and engine is not None:
            limit = self._limits.get(user)
            most = engine.config.limits.catch_up_messages if limit is None else limit
            self._begin(hand_missed(engine, held, most))

    def _live(self) -> LiveSubscriptions:
        engine = self._manager.engine
        assert engine is not None, "readers exist only with an engine"
        live: LiveSubscriptions = engine.part(LiveSubscriptions)
        return live

    def _watch(self, user: str) -> None:
        self._users.add(user)
        self._live().follow(user, self)

    def _unwatch(self, user: str) -> None:
        """Hear no more of a user none of whose subscriptions is read."""
        is_read = user in self._followed or any(
            reader.subscription is not None
            and str(reader.subscription.subscriber_id) == user
            for reader in self._manager.readers.values()
        )
        if user in self._users and not is_read:
            self._users.discard(user)
            self._live().forget(user, self)
