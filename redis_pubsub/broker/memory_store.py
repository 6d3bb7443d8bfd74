"""What Redis would hold, in one process: offsets, histories, fences, what is put once.

Guarded by a lock, since Django's threads publish into it while the loop listens.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import wire
from ..messages import Draft, Message, Position, message_of, queue_of
from ..options import BrokerOptions
from ..wire import Envelope
from .base import REVERSE, TAIL, History, Read
from .commands import new_epoch
from .fencing import Fence, Numbered, Outcome, Refused, Sent
from .memory_fencing import Fences
from .memory_jobs import MemoryJobStore
from .memory_presence import MemoryPresenceStore

if TYPE_CHECKING:
    from .memory import MemoryBroker

_FORGOTTEN_AT_ONCE = 2
"""For one value that is put, so that those that nobody takes do not pile up."""
_VERSIONS_MAX = 10_000


class _Channel:
    """One channel's epoch, offset and stored messages."""

    def __init__(self) -> None:
        self.epoch = new_epoch()
        self.offset = 0
        # Versions of rows are kept also where no history is.
        self.has_begun = False
        self.entries: deque[Message] = deque()
        self.entries_expire_at = 0.0
        self.expires_at = 0.0
        # Those that changed last stand at the end.
        self.versions: dict[str, int] = {}

    def keep_version(self, row: str, version: int) -> None:
        """Remember a row's version, of a bounded number of rows."""
        self.versions.pop(row, None)
        self.versions[row] = version
        if len(self.versions) > _VERSIONS_MAX:
            del self.versions[next(iter(self.versions))]


class MemoryStore:
    """What Redis would hold, for all brokers of one name in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, _Channel] = {}
        self._brokers: list[MemoryBroker] = []
        self._fences = Fences()
        self._once: dict[str, tuple[float, bytes]] = {}
        self.presence = MemoryPresenceStore(self._lock, self._send)
        self.jobs = MemoryJobStore(self._lock, self._send)

    @property
    def has_brokers(self) -> bool:
        """Whether this process serves anybody."""
        return bool(self._brokers)

    def attach(self, broker: MemoryBroker) -> None:
        with self._lock:
            self._brokers.append(broker)

    def detach(self, broker: MemoryBroker) -> None:
        with self._lock:
            if broker in self._brokers:
                self._brokers.remove(broker)

    def publish(
        self, drafts: Sequence[Draft], meta_ttl_s: int, envelope: Envelope
    ) -> list[Position | None]:
        with self._lock:
            return [self._publish(draft, meta_ttl_s, envelope) for draft in drafts]

    def publish_fenced(
        self,
        drafts: Sequence[Numbered],
        fence: Fence,
        options: BrokerOptions,
        envelope: Envelope,
    ) -> list[Outcome]:
        with self._lock:
            return [
                self._fences.publish(
                    numbered,
                    fence,
                    self._kept,
                    lambda draft: self._publish(draft, options.meta_ttl_s, envelope),
                )
                if queue_of(numbered[1].channel) is None
                else self._send_job(numbered[1], options, envelope)
                for numbered in drafts
            ]

    def _send_job(
        self, draft: Draft, options: BrokerOptions, envelope: Envelope
    ) -> Outcome:
        added = self.jobs.add(draft, options.workers, envelope, once=True)
        if isinstance(added, Exception):
            return Refused(str(added))
        return Sent(Position("", 0), was_there=not added)

    def _kept(self, name: str) -> list[Message]:
        channel = self._channels.get(name)
        if channel is None or channel.entries_expire_at < time.monotonic():
            return []
        return list(channel.entries)

    def _publish(
        self, draft: Draft, meta_ttl_s: int, envelope: Envelope
    ) -> Position | None:
        options, position = draft.options, Position("", 0)
        is_kept = options.has_history and not (
            draft.joins_history and not self._has_history(draft.channel)
        )
        if is_kept or draft.version is not None:
            channel = self._channel(draft.channel, meta_ttl_s)
            if draft.version is not None:
                row = f"{draft.header.model}:{draft.header.pk}"
                if channel.versions.get(row, -1) > draft.version:
                    return None
                channel.keep_version(row, draft.version)
            if is_kept:
                channel.has_begun = True
                channel.offset += 1
                position = Position(channel.epoch, channel.offset)
                channel.entries.append(
                    message_of(draft.channel, draft.header, draft.raw, position)
                )
                while len(channel.entries) > options.history_size:
                    channel.entries.popleft()
                channel.entries_expire_at = time.monotonic() + options.history_ttl_s
        if options.clears_history and draft.channel in self._channels:
            self._channels[draft.channel].entries.clear()
        header = envelope.header(draft.channel, draft.header, draft.raw)
        data = wire.frame(header, draft.raw, position)
        self._send(draft.channel, data)
        return position

    def notify(self, draft: Draft, envelope: Envelope) -> int:
        """Hand a message to those who want it now; how many they are."""
        header = envelope.header(draft.channel, draft.header, draft.raw)
        with self._lock:
            return self._send(draft.channel, wire.frame(header, draft.raw))

    def _send(self, channel: str, data: bytes) -> int:
        return sum(broker.arrived(channel, data) for broker in self._brokers)

    def read(self, read: Read, meta_ttl_s: int) -> History:
        with self._lock:
            if not read.begins and not self._has_history(read.channel):
                return History(Position("", 0), [])
            channel = self._channel(read.channel, meta_ttl_s)
            channel.has_begun = True
            if read.heals == channel.epoch and (read.since or 0) > channel.offset:
                channel.epoch = new_epoch()
            entries = list(channel.entries)
            position = Position(channel.epoch, channel.offset)
        since, limit = read.since, max(0, read.limit)
        if read.order == REVERSE:
            entries.reverse()
            entries = [e for e in entries if since is None or e.position.offset < since]
        else:
            after = since or 0
            if read.order == TAIL:
                after = max(after, position.offset - limit)
            entries = [entry for entry in entries if entry.position.offset > after]
        return History(position, entries[:limit])

    def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep a value until it is taken, or its time is over."""
        now = time.monotonic()
        with self._lock:
            # Those that nobody has taken are the oldest.
            oldest = list(itertools.islice(self._once.items(), _FORGOTTEN_AT_ONCE))
            for other, (ends_at, _) in oldest:
                if ends_at <= now:
                    del self._once[other]
            self._once[name] = (now + ttl_s, value)

    def take(self, name: str) -> bytes | None:
        """Take it; once."""
        with self._lock:
            ends_at, value = self._once.pop(name, (0.0, b""))
        return value if ends_at > time.monotonic() else None

    def flush(self) -> None:
        """Forget everything, as a Redis without its data."""
        with self._lock:
            self._channels.clear()
            self._fences = Fences()
            self._once.clear()
            self.presence.clear()
            self.jobs.clear()

    def _has_history(self, name: str) -> bool:
        channel = self._channels.get(name)
        if channel is None or channel.expires_at < time.monotonic():
            return False
        return channel.has_begun

    def _channel(self, name: str, meta_ttl_s: int) -> _Channel:
        now = time.monotonic()
        channel = self._channels.get(name)
        if channel is None or channel.expires_at < now:
            channel = self._channels[name] = _Channel()
        channel.expires_at = now + meta_ttl_s
        if channel.entries_expire_at < now:
            channel.entries.clear()
        return channel


@functools.cache
def store_of(url: str) -> MemoryStore:
    """The store of a ``memory://`` URL.

    Process-wide by its nature: it stands in for a server that threads and loops share.
    """
    return MemoryStore()
