"""Presence in Redis, from the event loop and from synchronous code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from .commands import Command
from .presence import Change, Counts, Member
from .presence_commands import Flow, PresenceCommands

T = TypeVar("T")


class RedisPresence:
    """A `PresenceStore`.

    Args:
        run: One round trip: gives every command's reply, or raises `BrokerUnavailable`.
        commands: What to ask.
    """

    def __init__(
        self,
        run: Callable[[list[Command]], Awaitable[list[Any]]],
        commands: PresenceCommands,
    ) -> None:
        self._run = run
        self._commands = commands

    async def begin(self, node: str, ttl_s: float, *, replaces: str = "") -> bool:
        return await self._drive(self._commands.begin(node, ttl_s, replaces))

    async def write(
        self,
        node: str,
        ttl_s: float,
        changes: Sequence[Change] = (),
        *,
        emptied: Collection[str] = (),
    ) -> bool:
        return await self._drive(self._commands.write(node, ttl_s, changes, emptied))

    async def end(self, node: str) -> None:
        await self._drive(self._commands.end(node))

    async def members(self, channel: str) -> list[Member]:
        return await self._drive(self._commands.members(channel))

    async def counts(self, channel: str) -> Counts:
        return await self._drive(self._commands.counts(channel))

    async def reap(self, by: str, hold_off_s: float) -> int:
        return await self._drive(self._commands.reap(by, hold_off_s))

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            commands = next(flow)
            while True:
                commands = flow.send(await self._run(commands))
        except StopIteration as end:
            outcome: T = end.value
            return outcome


class BlockingRedisPresence:
    """A `PresenceReader`.

    Args:
        run: One round trip: gives every command's reply, or raises `BrokerUnavailable`.
        commands: What to ask.
    """

    def __init__(
        self, run: Callable[[list[Command]], list[Any]], commands: PresenceCommands
    ) -> None:
        self._run = run
        self._commands = commands

    def members(self, channel: str) -> list[Member]:
        return self._drive(self._commands.members(channel))

    def counts(self, channel: str) -> Counts:
        return self._drive(self._commands.counts(channel))

    def _drive(self, flow: Flow[T]) -> T:
        try:
            commands = next(flow)
            while True:
                commands = flow.send(self._run(commands))
        except StopIteration as end:
            outcome: T = end.value
            return outcome
