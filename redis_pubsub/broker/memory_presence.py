"""Presence inside one process, for the memory broker: the promises of ``presence``."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence

from .. import wire
from ..messages import new_header
from .presence import Change, Counts, Member, presence_channel

_CLAIM_S = 30.0
"""For so long a process that came back may move its members to its new node."""


class MemoryPresenceStore:
    """What Redis would hold.

    Args:
        lock: Of the store this is a part of.
        send: Delivers ``(channel, data)`` to all brokers; called under the lock.
    """

    def __init__(self, lock: threading.Lock, send: Callable[[str, bytes], int]) -> None:
        self._lock = lock
        self._send = send
        self._channels: dict[str, dict[str, Change]] = {}
        self._nodes: dict[str, float] = {}
        self._reaped: set[str] = set()
        self._claimed: dict[str, float] = {}
        self._held_off_until = 0.0

    def clear(self) -> None:
        """Forget everything; called under the lock."""
        self._channels.clear()
        self._nodes.clear()
        self._reaped.clear()
        self._claimed.clear()

    def begin(self, node: str, ttl_s: float, replaces: str) -> bool:
        with self._lock:
            now = time.monotonic()
            self._nodes[node] = now + ttl_s
            if replaces in self._reaped:
                return True
            self._claimed[replaces] = now + _CLAIM_S
            return False

    def write(
        self, node: str, ttl_s: float, changes: Sequence[Change], envelope: wire.Envelope
    ) -> bool:
        with self._lock:
            is_known = self._is_known(node)
            if is_known:
                self._nodes[node] = time.monotonic() + ttl_s
            for change in changes:
                self._change(change, envelope)
            return is_known

    def end(self, node: str) -> None:
        with self._lock:
            self._nodes.pop(node, None)

    def members(self, channel: str) -> list[Member]:
        with self._lock:
            return [
                change.member
                for change in self._channels.get(channel, {}).values()
                if self._is_known(change.member.node)
            ]

    def counts(self, channel: str) -> Counts:
        members = self.members(channel)
        return Counts(len(members), len({member.user for member in members}))

    def reap(self, hold_off_s: float, envelope: wire.Envelope) -> int:
        with self._lock:
            now = time.monotonic()
            if now < self._held_off_until:
                return 0
            self._held_off_until = now + hold_off_s
            gone = [
                Change(name, change.member, "exit", change.by_user, change.announce)
                for name, entered in self._channels.items()
                for change in entered.values()
                if not self._is_known(change.member.node)
                and self._claimed.get(change.member.node, 0.0) < now
            ]
            self._nodes = {node: end for node, end in self._nodes.items() if end > now}
            self._claimed = {node: end for node, end in self._claimed.items() if end > now}
            for change in gone:
                self._reaped.add(change.member.node)
                self._change(change, envelope)
            return len(gone)

    def _is_known(self, node: str) -> bool:
        return self._nodes.get(node, 0.0) > time.monotonic()

    def _change(self, change: Change, envelope: wire.Envelope) -> None:
        member = change.member
        entered = self._channels.setdefault(change.channel, {})
        if change.kind == "exit":
            is_news = entered.pop(member.client, None) is not None
        else:
            is_news = member.client not in entered
            entered[member.client] = change
        others = sum(
            other.member.user == member.user and other.member.client != member.client
            for other in (entered.values() if change.by_user and member.user else ())
        )
        if not entered:
            del self._channels[change.channel]
        if is_news and change.event and not others:
            name = presence_channel(change.channel)
            header = envelope.header(name, new_header(change.event), member.info)
            self._send(name, wire.frame(header, member.info))


class MemoryPresence:
    """A `PresenceStore`; suspends in every call, as a network does."""

    def __init__(self, store: MemoryPresenceStore, envelope: wire.Envelope) -> None:
        self._store = store
        self._envelope = envelope

    async def begin(self, node: str, ttl_s: float, *, replaces: str = "") -> bool:
        await asyncio.sleep(0)
        return self._store.begin(node, ttl_s, replaces)

    async def write(
        self,
        node: str,
        ttl_s: float,
        changes: Sequence[Change] = (),
        *,
        emptied: Collection[str] = (),
    ) -> bool:
        await asyncio.sleep(0)
        return self._store.write(node, ttl_s, changes, self._envelope)

    async def end(self, node: str) -> None:
        await asyncio.sleep(0)
        self._store.end(node)

    async def members(self, channel: str) -> list[Member]:
        await asyncio.sleep(0)
        return self._store.members(channel)

    async def counts(self, channel: str) -> Counts:
        await asyncio.sleep(0)
        return self._store.counts(channel)

    async def reap(self, by: str, hold_off_s: float) -> int:
        await asyncio.sleep(0)
        return self._store.reap(hold_off_s, self._envelope)
