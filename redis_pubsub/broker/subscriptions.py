"""What a process wants of Redis, and how much of it Redis has confirmed. Sans-IO."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..exceptions import BrokerUnavailable

_NAMES_PER_COMMAND = 512


class Subscriptions:
    """The wishes of one broker.

    Redis forgets subscriptions together with the connection, so the wishes live here
    and are replayed after every reconnect.

    Args:
        channel_key: What a channel is called in Redis.
    """

    def __init__(self, channel_key: Callable[[str], bytes]) -> None:
        self._channel_key = channel_key
        self.channels: dict[bytes, str] = {}
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._heard: asyncio.Future[None] | None = None
        # A confirmation belongs to the oldest request of its channel, so that one that
        # was answered before a later UNSUBSCRIBE does not pass for the newest.
        self._unanswered: Counter[bytes] = Counter()
        self._queue: list[tuple[str, bytes]] = []
        self._is_connected = False
        self.changed = asyncio.Event()

    def want(self, channel: str) -> asyncio.Future[None]:
        confirmed = self._confirmed.get(channel)
        if confirmed is None:
            confirmed = asyncio.get_running_loop().create_future()
            self._confirmed[channel] = confirmed
            key = self._channel_key(channel)
            self.channels[key] = channel
            self._ask("SUBSCRIBE", key)
        return confirmed

    def disappoint(
        self, channel: str, confirmed: asyncio.Future[None], error: Exception
    ) -> None:
        """Whoever waits for a channel has waited long enough; it is wanted all the same."""
        if self._confirmed.get(channel) is confirmed:
            self._confirmed[channel] = asyncio.get_running_loop().create_future()
        _fail(confirmed, error)

    def forget(self, channel: str) -> None:
        confirmed = self._confirmed.pop(channel, None)
        if confirmed is not None:
            # Not cancelled: whoever still waits for it would pass for cancelled himself.
            _fail(confirmed, BrokerUnavailable("the channel was left"))
            key = self._channel_key(channel)
            self.channels.pop(key, None)
            self._ask("UNSUBSCRIBE", key)

    def ask_again(self, channel: str) -> None:
        """Ask for a channel that is wanted and confirmed: for the sake of the answer."""
        if channel in self._confirmed:
            self._ask("SUBSCRIBE", self._channel_key(channel))

    def is_answered(self, channel: str) -> bool:
        """Whether this connection has answered all that was asked of a wanted channel."""
        key = self._channel_key(channel)
        return self._is_connected and key in self.channels and not self._unanswered[key]

    def confirm(self, key: bytes) -> str | None:
        """Note Redis' answer; the channel's name if it was confirmed before."""
        self._unanswered[key] -= 1
        if self._unanswered[key] > 0:
            return None
        del self._unanswered[key]
        channel = self.channels.get(key)
        if channel is None:
            return None
        confirmed = self._confirmed[channel]
        if confirmed.done():
            return channel
        confirmed.set_result(None)
        # All that are confirmed share one future.
        self._heard = self._heard or confirmed
        self._confirmed[channel] = self._heard
        return None

    def lost(self) -> None:
        """The connection is gone: what is wanted is kept, what was asked is not."""
        self._is_connected = False
        self._unanswered.clear()
        self._queue.clear()

    def replay(self) -> None:
        """A new connection is there: ask for everything that is wanted."""
        self._is_connected = True
        self._unanswered.clear()
        self._queue.clear()
        for key in self.channels:
            self._ask("SUBSCRIBE", key)

    def take(self) -> list[tuple[Any, ...]]:
        """Commands to send now; neighbours of one kind share a command."""
        commands: list[tuple[Any, ...]] = []
        last: list[Any] = []
        for name, key in self._queue:
            if not last or last[0] != name or len(last) > _NAMES_PER_COMMAND:
                last = [name]
                commands.append(())
            last.append(key)
            commands[-1] = tuple(last)
        self._queue.clear()
        self.changed.clear()
        return commands

    def fail(self, error: Exception) -> None:
        for confirmed in self._confirmed.values():
            _fail(confirmed, error)

    def _ask(self, name: str, key: bytes) -> None:
        if not self._is_connected:
            return
        if name == "SUBSCRIBE":
            self._unanswered[key] += 1
        self._queue.append((name, key))
        self.changed.set()


def _fail(confirmed: asyncio.Future[None], error: Exception) -> None:
    if not confirmed.done():
        confirmed.set_exception(error)
        # Where nobody waits any more, nobody misses it.
        confirmed.exception()
