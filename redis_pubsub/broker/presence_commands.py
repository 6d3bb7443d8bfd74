"""Presence as Redis commands and their replies, without a connection.

Keys of a channel, all in its slot: ``presence`` (client to value), ``presence-users`` (user
to number of connections), ``presence-nodes`` (node to number of members). Keys of a node,
all in its slot: ``<prefix>:node:{<node>}`` exists while the node is known,
``…:channels`` is where it has members, ``…:end`` who answers for them after it is gone.
``<prefix>:nodes`` has every node that may have members. No script touches two slots.

What takes several round trips is a `Flow`, which ``redis_presence`` drives.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from .. import codec, wire
from ..exceptions import InvalidPayload
from ..messages import new_header
from ..metrics import Metrics
from ..options import BrokerOptions
from .commands import Command, Commands
from .keys import channel_key
from .presence import Change, Counts, Member, presence_channel
from .scripts import PRESENCE_ENTER, PRESENCE_EXIT

T = TypeVar("T")
Flow = Generator[list[Command], list[Any], T]
"""Gives commands for one round trip, takes their replies, returns the outcome."""

KEY_TTL_S = 7 * 24 * 3600
"""Processes write their members anew every day, so this ends only what no process is left
to end: a site that was switched off, an application that was removed."""
_CLAIM_S = 30
"""For so long a process that came back may move its members to its new node."""
_END_TTL_S = 24 * 3600
_CHANNELS_AT_ONCE = 100
_EXITS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Stored:
    """A member as it stands in Redis, with what holds for its leave."""

    member: Member
    value: bytes
    by_user: bool
    announce: bool


class PresenceCommands:
    """Builds commands for one prefix and reads their replies.

    Args:
        commands: Names the pub/sub channels.
        options: Prefix and signature.
        metrics: Counts what could not be parsed.
    """

    def __init__(
        self, commands: Commands, options: BrokerOptions, metrics: Metrics
    ) -> None:
        self._live = commands.live
        self._prefix = options.prefix
        self._envelope = wire.Envelope(options.envelope_key)
        self._metrics = metrics
        self._nodes = f"{self._prefix}:nodes".encode()
        self._reaper = f"{self._prefix}:nodes:reaper".encode()

    def _members(self, channel: str) -> bytes:
        return channel_key(self._prefix, channel, "presence")

    def _keys(self, channel: str) -> list[bytes]:
        parts = ("presence", "presence-users", "presence-nodes")
        return [channel_key(self._prefix, channel, part) for part in parts]

    def _node(self, node: str, part: str = "") -> bytes:
        return f"{self._prefix}:node:{{{node}}}{part}".encode()

    # -- writing ----------------------------------------------------------------

    def begin(self, node: str, ttl_s: float, replaces: str) -> Flow[bool]:
        """See `PresenceStore.begin`."""
        commands: list[Command] = [
            ("SADD", self._nodes, node),
            ("EXPIRE", self._nodes, KEY_TTL_S),
            ("SET", self._node(node), 1, "PX", _ms(ttl_s)),
        ]
        if not replaces:
            yield commands
            return False
        # Either the process or a reaper answers for the members of the node that is
        # gone: whoever is first. Two commands, since Redis 6 has no SET NX GET.
        end = self._node(replaces, ":end")
        commands += [("SET", end, "node", "NX", "EX", _CLAIM_S), ("GET", end)]
        replies = yield commands
        return bool(replies[-1] == b"reaper")

    def write(
        self,
        node: str,
        ttl_s: float,
        changes: Sequence[Change],
        emptied: Collection[str],
    ) -> Flow[bool]:
        """See `PresenceStore.write`."""
        channels = self._node(node, ":channels")
        entered = {change.channel: None for change in changes if change.kind != "exit"}
        # A node is listed before it has members, so that whenever it dies they are found.
        commands: list[Command] = [
            ("SET", self._node(node), 1, "XX", "PX", _ms(ttl_s)),
            ("SADD", self._nodes, node),
            ("EXPIRE", self._nodes, KEY_TTL_S),
        ]
        if emptied:
            commands.append(("SREM", channels, *emptied))
        if entered:
            commands.append(("SADD", channels, *entered))
        commands.append(("EXPIRE", channels, KEY_TTL_S))
        commands += [self._change(change) for change in changes]
        replies = yield commands
        return bool(replies[0])

    def end(self, node: str) -> Flow[None]:
        """See `PresenceStore.end`."""
        yield [
            ("DEL", self._node(node)),
            ("DEL", self._node(node, ":channels")),
            ("SREM", self._nodes, node),
        ]

    def _change(self, change: Change, expected: bytes = b"") -> Command:
        channel, member = change.channel, change.member
        companion = presence_channel(channel)
        header = b""
        if change.event:
            header = self._envelope.header(companion, new_header(change.event), member.info)
        by_user = "1" if change.by_user else "0"
        tail = (by_user, self._live(companion), header, member.info)
        keys = self._keys(channel)
        if change.kind == "exit":
            script = PRESENCE_EXIT.sha
            return ("EVALSHA", script, 3, *keys, member.client, expected, *tail)
        user = msgspec.json.encode(member.user)
        announce = "1" if change.announce else "0"
        value = b"%s %s%s %s\n%s" % (
            *(text.encode() for text in (member.node, by_user, announce)),
            user,
            member.info,
        )
        return (
            *("EVALSHA", PRESENCE_ENTER.sha, 3, *keys),
            *(member.client, member.node, user, value, KEY_TTL_S),
            *tail,
        )

    # -- reading ----------------------------------------------------------------

    def members(self, channel: str) -> Flow[list[Member]]:
        """See `PresenceStore.members`."""
        (values,) = yield [("HGETALL", self._members(channel))]
        members = [stored.member for stored in self._parsed(values)]
        known = yield from self._known({member.node for member in members})
        return [member for member in members if member.node in known]

    def counts(self, channel: str) -> Flow[Counts]:
        """See `PresenceStore.counts`."""
        members, users, nodes = self._keys(channel)
        clients, people, names = yield [
            ("HLEN", members),
            ("HLEN", users),
            ("HKEYS", nodes),
        ]
        wanted = {name.decode(errors="replace") for name in names}
        known = yield from self._known(wanted)
        if known == wanted:
            return Counts(clients, people)
        # Until the reaper has been there, whose they are has to be looked at.
        shown = yield from self.members(channel)
        return Counts(len(shown), len({member.user for member in shown}))

    def _known(self, nodes: Iterable[str]) -> Flow[set[str]]:
        asked = list(nodes)
        if not asked:
            return set()
        replies = yield [("EXISTS", self._node(node)) for node in asked]
        return {node for node, exists in zip(asked, replies, strict=True) if exists}

    def _parsed(self, values: Mapping[bytes, bytes]) -> list[_Stored]:
        parsed = [self._parse(client, value) for client, value in values.items()]
        return [stored for stored in parsed if stored is not None]

    def _parse(self, client: bytes, value: bytes) -> _Stored | None:
        try:
            head, _, info = value.partition(b"\n")
            node, flags, user = head.split(b" ", 2)
            codec.check(info)
            member = Member(
                client=client.decode(),
                user=msgspec.json.decode(user, type=str),
                node=node.decode(),
                info=info,
            )
        except (ValueError, msgspec.MsgspecError, InvalidPayload):
            self._metrics.count("malformed_messages")
            return None
        by_user, announce = flags[:1] == b"1", flags[1:] == b"1"
        return _Stored(member, value, by_user, announce)

    # -- the reaper -------------------------------------------------------------

    def reap(self, by: str, hold_off_s: float) -> Flow[int]:
        """See `PresenceStore.reap`."""
        lock = ("SET", self._reaper, by, "NX", "PX", _ms(hold_off_s))
        is_ours, names = yield [lock, ("SMEMBERS", self._nodes)]
        if not is_ours:
            return 0
        nodes = {name.decode(errors="replace") for name in names}
        known = yield from self._known(nodes)
        removed = 0
        for node in nodes - known:
            removed += yield from self._reap_node(node)
        return removed

    def _reap_node(self, node: str) -> Flow[int]:
        end, listed = self._node(node, ":end"), self._node(node, ":channels")
        replies = yield [
            ("SET", end, "reaper", "NX", "EX", _END_TTL_S),
            ("GET", end),
            ("SMEMBERS", listed),
        ]
        if replies[1] != b"reaper":
            # Its process is back and moves the members; next time, if it does not.
            return 0
        removed = 0
        for names in _chunks(list(replies[2]), _CHANNELS_AT_ONCE):
            channels = [name.decode(errors="replace") for name in names]
            removed += yield from self._reap_channels(node, channels)
            # Only now: a reaper that dies before leaves them to the next.
            yield [("SREM", listed, *names)]
        yield [("SREM", self._nodes, node)]
        return removed

    def _reap_channels(self, node: str, channels: Sequence[str]) -> Flow[int]:
        replies = yield [("HGETALL", self._members(channel)) for channel in channels]
        exits = [
            # Only the value that was read is removed and announced: a member that has
            # been moved to another node since, or that another reaper took, is not.
            self._change(
                Change(channel, stored.member, "exit", stored.by_user, stored.announce),
                stored.value,
            )
            for channel, values in zip(channels, replies, strict=True)
            for stored in self._parsed(values)
            if stored.member.node == node
        ]
        removed = 0
        for commands in _chunks(exits, _EXITS_AT_ONCE):
            removed += sum((yield commands))
        return removed


def _chunks(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
