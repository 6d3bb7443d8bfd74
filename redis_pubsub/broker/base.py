"""What every broker promises, and the values it speaks in.

A broker gives messages their order and carries them between processes. It keeps the
set of channels this process wants, and makes it true again after a lost connection.
It knows no listeners: those are the hub's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..exceptions import BrokerUnavailable
from ..messages import Draft, Message, Position
from .fencing import Fence, Numbered, Outcome
from .jobs import BlockingJobs, Jobs
from .presence import PresenceReader, PresenceStore

FORWARD, REVERSE, TAIL = "f", "r", "t"

Settled = Callable[[BrokerUnavailable | None], None]
"""Told what became of posted messages: ``None`` if the broker took all of them. Once, by
any thread; must not raise."""


@dataclass(frozen=True, slots=True)
class History:
    """One read of a channel.

    Attributes:
        position: Where the channel stood at the moment of the read.
        messages: What was asked for; those that could not be parsed are missing.
    """

    position: Position
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Read:
    """What to read of a channel.

    Attributes:
        channel: Its name.
        since: Only messages after this offset (before it, newest first).
        limit: How many at most; 0 reads only the position.
        order: `FORWARD`, `REVERSE`, or `TAIL`: oldest first and always up to the end, so
            that of more than the limit the newest come.
        begins: Begin a history where there is none, so that the position given out is the
            one that the first message continues. Else such a channel's epoch is ``""``.
        heals: An epoch in which the reader has seen ``since``: if the channel stands
            before it, it has lost messages, and its epoch ends.
    """

    channel: str
    since: int | None = None
    limit: int = 100
    order: str = FORWARD
    begins: bool = True
    heals: str = ""


class Sink(Protocol):
    """Where a broker delivers to; called on the event loop, must not block."""

    def deliver(self, channel: str, data: bytes) -> None:
        """One message as it stands on the wire, in the order of the channel."""

    def resubscribed(self, channel: str) -> None:
        """The connection was lost and is back: messages may have been missed."""


class Broker(Protocol):
    """The asynchronous side, one for each serving process and event loop."""

    @property
    def is_connected(self) -> bool:
        """Whether messages can arrive at this moment."""

    @property
    def silent_s(self) -> float:
        """Seconds since anything arrived, probes included; infinite before it did."""

    @property
    def presence(self) -> PresenceStore:
        """Who is on which channel."""

    @property
    def jobs(self) -> Jobs:
        """Queues of jobs."""

    async def start(self, sink: Sink) -> None:
        """Begin to connect; returns at once, also where Redis is down."""

    async def close(self) -> None:
        """Give back every connection and end every task."""

    def subscribe(self, channel: str) -> asyncio.Future[None]:
        """Want a channel.

        Returns:
            Done once a message published then will be delivered; await it behind
            ``asyncio.shield``, since others may. It fails with `BrokerUnavailable` where
            that is not confirmed within ``subscribe_timeout_s``; the channel is still
            wanted until `unsubscribe`.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Want a channel no more."""

    async def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        """Send messages in one round trip, in this order.

        Returns:
            Their positions (offset 0 where a channel keeps no history); ``None``
            for one that was dropped because a newer version of its row was sent.

        Raises:
            BrokerUnavailable: At least one of them may not have been sent.
        """

    async def notify(self, draft: Draft) -> int:
        """Send a message that no history keeps.

        Returns:
            How many processes heard it.

        Raises:
            BrokerUnavailable: It may not have been sent.
        """

    async def read(self, reads: Sequence[Read]) -> list[History]:
        """Read what channels keep, in one round trip.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """

    async def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for whoever takes it first, for so many seconds.

        Raises:
            BrokerUnavailable: It may not be there.
        """

    async def take(self, name: str) -> bytes | None:
        """A value that was put there, and that nobody else gets; ``None`` if there is none
        any more.

        Raises:
            BrokerUnavailable: Redis did not answer; it may be gone.
        """

    def pause(self) -> None:
        """Deliver nothing until `resume`; what comes meanwhile waits in Redis."""

    def resume(self) -> None:
        """Deliver again."""


class BlockingBroker(Protocol):
    """The synchronous side: for views, signals, commands. One per process."""

    @property
    def presence(self) -> PresenceReader:
        """Who is on which channel."""

    @property
    def jobs(self) -> BlockingJobs:
        """Queues of jobs."""

    def publish(self, drafts: Sequence[Draft]) -> list[Position | None]:
        """As `Broker.publish`."""

    def post(self, drafts: Sequence[Draft], settled: Settled) -> None:
        """Send messages in this order and behind all that were posted before, from whatever
        thread, without waiting for the answer.

        The other methods wait for that first, so that this process never sees what is
        older. There is a bound for what is unanswered, above which this waits.

        Args:
            drafts: The messages.
            settled: Told what became of them.

        Raises:
            BrokerUnavailable: They may not have been sent; ``settled`` is not told.
        """

    @property
    def is_settled(self) -> bool:
        """Whether everything that was posted is answered, and ``settled`` was told."""

    def settle(self) -> None:
        """Wait for that.

        Raises:
            BrokerUnavailable: Redis hangs; ``settled`` was told.
        """

    def publish_fenced(self, drafts: Sequence[Numbered], fence: Fence) -> list[Outcome]:
        """Send messages out of an outbox in one round trip, in this order.

        On a channel where another holder has published with this number or a higher one
        nothing is sent. A message that is in the channel's history, or was sent on a
        channel without one in the last 300 s, is not sent again. Where the broker refuses a
        message, those of its channel behind it are held back.

        Args:
            drafts: The messages, each with its number in the outbox. One whose number is
                above all that this outbox sent on the channel is known to be new, and
                not looked for.
            fence: Who sends them.

        Returns:
            What became of each.

        Raises:
            BrokerUnavailable: Each of them may be out or not.
        """

    def read(self, reads: Sequence[Read]) -> list[History]:
        """As `Broker.read`."""

    def put(self, name: str, value: bytes, ttl_s: float) -> None:
        """As `Broker.put`."""

    def close(self) -> None:
        """Give back every connection."""
