"""Redis commands and their replies, without a connection."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from .. import wire
from ..exceptions import BrokerUnavailable, MalformedMessage
from ..messages import Draft, Message, Position
from ..metrics import Metrics
from ..options import BrokerOptions
from .base import History, Read
from .fencing import (
    Fence,
    FencedOff,
    HeldBack,
    Numbered,
    Outcome,
    Refused,
    Sent,
    is_about_redis,
)
from .keys import channel_key, escape
from .replication import SERVER
from .scripts import HISTORY, PUBLISH

Command = tuple[Any, ...]

_NO_OUTBOX = ("",) * 6
_VERSION_DIGITS = 20
_FENCED_OFF, _WAS_THERE, _HELD_BACK = 2, 3, 4
# redis-py takes the first word off the errors that it has classes for. LOADING is a
# ConnectionError to it.
_ABOUT_REDIS = (
    AskError,
    AuthenticationError,
    ClusterError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)


class Commands:
    """Builds commands for one prefix and reads their replies.

    Args:
        options: Prefix and times.
        metrics: Counts what could not be parsed.
    """

    def __init__(self, options: BrokerOptions, metrics: Metrics) -> None:
        self._prefix = options.prefix
        self._meta_ttl_s = options.meta_ttl_s
        self._metrics = metrics
        self._envelope = wire.Envelope(options.envelope_key)

    def live(self, channel: str) -> bytes:
        """Name of the pub/sub channel that carries a channel's messages."""
        return self._key(channel, "live")

    def _key(self, channel: str, part: str) -> bytes:
        return channel_key(self._prefix, channel, part)

    def publish(self, draft: Draft) -> Command:
        """The command that sends a message."""
        options = draft.options
        if not (options.has_history or options.clears_history) and draft.version is None:
            return self.notify(draft)
        return self._script(draft)

    def publish_fenced(self, drafts: Sequence[Numbered], fence: Fence) -> list[Command]:
        """The commands that send messages out of an outbox, for one round trip."""
        last = {draft.channel: number for number, draft in drafts}
        before: dict[str, int] = {}
        commands = []
        for number, draft in drafts:
            # One that Redis refuses holds back those of its channel behind it.
            front = before.get(draft.channel, 0)
            is_alone = not front and last[draft.channel] == number
            commands.append(self._fenced(number, draft, fence, "" if is_alone else front))
            before[draft.channel] = number
        return commands

    def _fenced(self, number: int, draft: Draft, fence: Fence, front: int | str) -> Command:
        message = draft.header.id
        keys = (
            self._key(draft.channel, "outbox"),
            self._key(draft.channel, f"id:{message}"),
        )
        arguments = (
            fence.outbox,
            fence.number,
            fence.holder,
            number,
            message,
            front,
        )
        return self._script(draft, keys, arguments)

    def _script(
        self, draft: Draft, keys: Sequence[bytes] = (), arguments: Sequence[Any] = ()
    ) -> Command:
        header = self._envelope.header(draft.channel, draft.header, draft.raw)
        version = "" if draft.version is None else f"{draft.version:0{_VERSION_DIGITS}d}"
        return (
            "EVALSHA",
            PUBLISH.sha,
            4 + len(keys),
            self._key(draft.channel, "meta"),
            self._key(draft.channel, "stream"),
            self._key(draft.channel, "versions"),
            self.live(draft.channel),
            *keys,
            header,
            draft.raw,
            draft.options.history_size,
            draft.options.history_ttl_s,
            self._meta_ttl_s,
            new_epoch(),
            f"{draft.header.model}:{draft.header.pk}",
            version,
            "PUBLISH",
            "1" if draft.joins_history else "0",
            *(arguments or _NO_OUTBOX),
            SERVER,
        )

    def notify(self, draft: Draft) -> Command:
        """The command that sends a message past any history."""
        header = self._envelope.header(draft.channel, draft.header, draft.raw)
        return ("PUBLISH", self.live(draft.channel), wire.frame(header, draft.raw))

    def put(self, name: str, value: bytes, ttl_s: float) -> Command:
        """The command that keeps a value until it is taken."""
        return ("SET", self._once(name), value, "PX", max(1, round(ttl_s * 1000)))

    def take(self, name: str) -> Command:
        """The command that takes it: of several at once one gets it."""
        return ("GETDEL", self._once(name))

    def _once(self, name: str) -> bytes:
        return f"{self._prefix}:once:{{{escape(name)}}}".encode()

    def published(self, reply: Any) -> Position | None:
        """What `publish` led to, see `Broker.publish`."""
        if isinstance(reply, int):
            return Position("", 0)
        epoch, offset, is_sent = reply
        return Position(epoch.decode(), int(offset)) if is_sent else None

    def sent(self, reply: Any) -> Outcome:
        """What `publish_fenced` led to.

        Raises:
            BrokerUnavailable: Redis can send nothing now.
        """
        if isinstance(reply, Exception):
            if isinstance(reply, _ABOUT_REDIS) or is_about_redis(str(reply)):
                raise BrokerUnavailable(f"Redis: {reply}") from reply
            return Refused(str(reply))
        if isinstance(reply, int):
            # A job: it has no place in a history.
            return Sent(Position("", 0), was_there=not reply)
        epoch, offset, how = reply
        if how == _FENCED_OFF:
            return FencedOff(int(offset))
        if how == _HELD_BACK:
            return HeldBack()
        position = Position(epoch.decode(), int(offset)) if how else None
        return Sent(position, was_there=how == _WAS_THERE)

    def read(self, read: Read) -> Command:
        """The command that reads a channel."""
        return (
            "EVALSHA",
            HISTORY.sha,
            2,
            self._key(read.channel, "meta"),
            self._key(read.channel, "stream"),
            "" if read.since is None else read.since,
            max(0, read.limit),
            read.order,
            self._meta_ttl_s,
            new_epoch() if read.begins else "",
            read.heals,
            new_epoch(),
            SERVER,
        )

    def history(self, channel: str, reply: Any) -> History:
        """What `read` led to."""
        epoch, offset, entries = reply
        position = Position(epoch.decode(), int(offset))
        messages = [self._entry(channel, position.epoch, *entry) for entry in entries]
        return History(position, [message for message in messages if message is not None])

    def _entry(
        self, channel: str, epoch: str, entry_id: bytes, parts: Sequence[bytes]
    ) -> Message | None:
        fields = dict(zip(parts[::2], parts[1::2], strict=False))
        try:
            position = Position(epoch, int(entry_id.partition(b"-")[0]))
            return self._envelope.parse_entry(
                channel, fields.get(b"h", b""), fields.get(b"d", b""), position
            )
        except (MalformedMessage, ValueError):
            self._metrics.count("malformed_messages")
            return None


def new_epoch() -> str:
    """A name for the life of a history that begins now: never twice, which is less than
    unguessable, and needs no system call. A forked process has another seed."""
    return f"{random.getrandbits(48):012x}"


def not_loaded(replies: Sequence[Any]) -> list[int]:
    """Which commands of a pipeline Redis did not run, since it lacks their script."""
    return [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def checked(replies: list[Any]) -> list[Any]:
    """The replies of a pipeline, if each is one.

    Raises:
        BrokerUnavailable: Redis answered one of them with an error.
    """
    for reply in replies:
        if isinstance(reply, Exception):
            raise BrokerUnavailable(f"Redis: {reply}") from reply
    return replies
