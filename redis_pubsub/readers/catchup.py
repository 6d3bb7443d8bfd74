"""Missed publications first, then live ones, nothing twice.

A reader is *held*: it listens, and live messages wait in it. What the database has for the
user is handed over in chunks; then those of the waiting messages that say nothing new are
dropped, and the reader goes on by itself. What is handed over is known by model and key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django.apps import apps

from ..messages import CREATE, DELETE, Message
from .missed import Missed, find_missed, read_missed
from .recorder import Recorder

if TYPE_CHECKING:
    from ..engine import Engine
    from .reader import ChannelReader

CHUNK = 100
REMEMBER_S = 60.0
"""How long after the switch a row's creation, still on its way, is known as old."""

Key = tuple[str, str]


class Backlog:
    """What one reader has yet to be handed, and what it was handed.

    Attributes:
        is_open: Whether the reader is held.
        missed: Messages that come before live ones.
        changed: Set when something was delivered, or the reader has ended.
        over: Set at the switch.
        error: What went wrong.
    """

    def __init__(self, former: Backlog | None = None) -> None:
        self.is_open = True
        self.missed: deque[Message] = deque()
        self.changed = asyncio.Event()
        self.over = asyncio.Event()
        self.error: Exception | None = None
        self._handed: dict[Key, int] = {} if former is None else former._handed
        self._timer: asyncio.TimerHandle | None = None
        if former is not None:
            former._forget_not()

    def add(self, message: Message) -> None:
        """Hand this over before anything live."""
        self.missed.append(message)
        self._handed[key_of(message.model, message.pk)] = hash(message.raw)

    def switch(self, waiting: Iterable[Message]) -> deque[Message]:
        """Those of the messages that waited that are news.

        A row was handed over as it is now, so its creation is none, and neither is
        anything up to a message with the very same content.
        """
        messages = [(key_of(each.model, each.pk), each) for each in waiting]
        said = {
            key: place
            for place, (key, message) in enumerate(messages)
            if self._handed.get(key) == hash(message.raw)
        }
        self.is_open = False
        self.over.set()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(REMEMBER_S, self._handed.clear)
        return deque(
            message
            for place, (key, message) in enumerate(messages)
            if place > said.get(key, -1) and self._is_news(key, message)
        )

    def news(self, messages: list[Message]) -> list[Message]:
        """Those of the messages after the switch that are news."""
        if not self._handed:
            return messages
        return [
            each for each in messages if self._is_news(key_of(each.model, each.pk), each)
        ]

    def end(self) -> None:
        """The reader has ended."""
        self.missed.clear()
        self._handed.clear()
        self.is_open = False
        self.changed.set()
        self.over.set()
        self._forget_not()

    def _forget_not(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _is_news(self, key: Key, message: Message) -> bool:
        if message.event == DELETE:
            self._handed.pop(key, None)
        return not (message.event == CREATE and key in self._handed)


def key_of(label: str, pk: str) -> Key:
    """What a row is known by, whether it was published as a proxy or not."""
    try:
        model = apps.get_model(label)._meta.concrete_model
    except (LookupError, ValueError):
        return label, pk
    return (model or apps.get_model(label))._meta.label_lower, pk


def checked_limit(limit: int | None) -> int | None:
    """A limit that a user wrote.

    Raises:
        ValueError: Less than 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"a limit is 1 at least, not {limit}")
    return limit


async def hand_missed(engine: Engine, readers: Sequence[ChannelReader], most: int) -> int:
    """Hand a user's held, listening readers what he missed; they go on by themselves.

    Whatever happens, the readers are not held when this ends.

    Args:
        engine: What the readers listen with.
        readers: All of one user.
        most: How many publications at most; the oldest. The rest stays undelivered.

    Returns:
        How many.
    """
    handed = 0
    try:
        for reader in readers:
            await reader.handed_over()
        listening = {each.channel_name: each for each in readers if each.is_listening}
        wanted = await _wanted(engine, list(listening.values()), most) if listening else []
        for begin in range(0, len(wanted), CHUNK):
            chunk = wanted[begin : begin + CHUNK]
            messages = await engine.orm.run(read_missed, engine, chunk)
            for message in await _shown(engine, messages, listening):
                handed += listening[message.channel].hand(message)
            for reader in listening.values():
                await reader.handed_over()
        engine.metrics.count("caught_up", handed)
    except Exception as error:
        engine.metrics.count("catch_up_failed")
        for reader in readers:
            reader.release(error)
        raise
    finally:
        for reader in readers:
            reader.release()
    return handed


async def _shown(
    engine: Engine, messages: list[Message], readers: dict[str, ChannelReader]
) -> list[Message]:
    """What the readers' user may see of it, in the same order."""
    if not any(message.is_judged for message in messages):
        return messages
    views: dict[int, Message] = {}
    for channel, reader in readers.items():
        mine = [message for message in messages if message.channel == channel]
        for view in await engine.audiences.shown(channel, mine, reader.viewer):
            views[id(view.source or view)] = view
    return [views[id(message)] for message in messages if id(message) in views]


async def _wanted(
    engine: Engine, readers: Sequence[ChannelReader], most: int
) -> list[Missed]:
    subscriptions = [reader.subscription for reader in readers if reader.subscription]
    user = subscriptions[0].subscriber_id
    # Taken before the database is read: a receipt that is not among these is in there.
    unwritten = {
        (receipt.channel, *key_of(receipt.model, receipt.pk))
        for receipt in engine.part(Recorder).unwritten(user)
    }
    channels = [subscription.channel_id for subscription in subscriptions]
    found = await engine.orm.run(find_missed, user, channels, most + len(unwritten))
    return [
        missed
        for missed in found
        if (missed.channel, missed.model._meta.label_lower, str(missed.pk)) not in unwritten
    ][:most]
