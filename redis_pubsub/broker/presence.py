"""Who is on a channel: the values, and what every broker's list of them promises.

A *member* is one connection on one channel. It belongs to a *node*, which is one stay of
a serving process in the list: a process that was given up for dead and comes back does
so as another node, so a node that is gone stays gone. Members of a node that is gone are
no longer shown; `PresenceStore.reap` removes them and announces that they left.

When to write what, and what to do while Redis is down, is ``hub.presence``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..messages import reserved_channel

JOIN = "join"
LEAVE = "leave"


def presence_channel(channel: str) -> str:
    """Where joins and leaves of a channel are announced.

    Such a message has the event `JOIN` or `LEAVE` and the member's ``info`` as payload.
    """
    return reserved_channel("presence:" + channel)


@dataclass(frozen=True, slots=True)
class Member:
    """One connection on one channel.

    Attributes:
        client: Id of the connection; it belongs to one user all its life.
        user: Primary key as text; ``""`` for an anonymous one.
        node: Id of the serving process's stay; no white space.
        info: What clients see of the member: one line of JSON.
    """

    client: str
    user: str
    node: str
    info: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """How many are on a channel.

    Attributes:
        clients: Connections.
        users: Different users; all anonymous ones together are one.
    """

    clients: int
    users: int


@dataclass(frozen=True, slots=True)
class Change:
    """One member that comes or goes.

    Attributes:
        channel: The channel's name.
        member: Who. What it leaves with is the ``info`` that is given here.
        kind: ``"enter"``; ``"restore"``, which is entering without a join; ``"exit"``.
        by_user: Whether only a user's first connection joins, and only the last one
            leaves. Anonymous members join and leave one by one in any case.
        announce: Whether joins and leaves are announced.
    """

    channel: str
    member: Member
    kind: Literal["enter", "restore", "exit"]
    by_user: bool = False
    announce: bool = False

    @property
    def event(self) -> str:
        """What the change is announced as, if it comes to that; ``""`` for never."""
        if not self.announce or self.kind == "restore":
            return ""
        return JOIN if self.kind == "enter" else LEAVE


class PresenceReader(Protocol):
    """The synchronous side. Both raise `BrokerUnavailable` if Redis does not answer."""

    def members(self, channel: str) -> list[Member]:
        """As `PresenceStore.members`."""

    def counts(self, channel: str) -> Counts:
        """As `PresenceStore.counts`."""


class PresenceStore(Protocol):
    """The asynchronous side. Everything raises `BrokerUnavailable` if Redis does not
    answer; what was asked for may then have been done or not, and may be repeated."""

    async def begin(self, node: str, ttl_s: float, *, replaces: str = "") -> bool:
        """Make a node, known for ``ttl_s`` seconds.

        Args:
            node: An id that was never used before.
            ttl_s: When it is gone unless `write` is called.
            replaces: The same process's last node, which is gone.

        Returns:
            Whether leaves of the replaced node's members may have been announced. If
            not, nobody else does so in the next seconds.
        """

    async def write(
        self,
        node: str,
        ttl_s: float,
        changes: Sequence[Change] = (),
        *,
        emptied: Collection[str] = (),
    ) -> bool:
        """Make changes in this order, in one round trip, and keep the node known.

        Entering twice is no second join, leaving twice no second leave. A change and
        its announcement are one step: who listens hears them in the order in which
        they were made.

        Args:
            node: Whose members these are.
            ttl_s: How long it is known from now.
            changes: What happened.
            emptied: Channels where the node has no members any more.

        Returns:
            Whether the node was still known. If not, it stays unknown: its members,
            those of ``changes`` included, are not shown; `begin` another one and write
            them again.
        """

    async def end(self, node: str) -> None:
        """Forget a node that has no members."""

    async def members(self, channel: str) -> list[Member]:
        """Who is there, in no order."""

    async def counts(self, channel: str) -> Counts:
        """How many are there."""

    async def reap(self, by: str, hold_off_s: float) -> int:
        """Remove the members of nodes that are gone, and announce that they left.

        Any number may do so at once, and be interrupted anywhere: each leave is
        announced once.

        Args:
            by: Who reaps, for the curious.
            hold_off_s: For so long after somebody began, others have nothing to do.

        Returns:
            How many members were removed.
        """
