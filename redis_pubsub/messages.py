"""The envelope and its parts. Knows no transport.

A *message* is the envelope, the *payload* what the user put in it, a *position*
where a channel's history stands.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from . import codec
from .exceptions import InvalidChannelName
from .options import CHANNEL_NAME_MAX, ChannelOptions

CREATE = "create"
UPDATE = "update"
DELETE = "delete"

SNAPSHOT = "snapshot"
"""A header's ``audience``: the payload is a row for the servers' eyes; what each client
gets is rendered from it."""
EVERYONE = "everyone"
"""A header's ``audience``: on a channel of audiences, yet meant for all who listen."""

_CONTROL_CHARACTERS = frozenset([*map(chr, range(32)), *map(chr, range(127, 160))])
_RESERVED = "\x00"


def reserved_channel(name: str) -> str:
    """A channel name of this package's own, which no user can spell."""
    return _RESERVED + name


def is_reserved(channel: str) -> bool:
    """Whether a channel is this package's own."""
    return channel.startswith(_RESERVED)


CONTROL_CHANNEL = reserved_channel("control")
"""Where processes are told to look again, or to end something."""


def has_position(channel: str) -> bool:
    """Whether what was said on a channel can be read again."""
    return not is_reserved(channel) or channel == CONTROL_CHANNEL


_QUEUE = reserved_channel("queue:")


def queue_channel(queue: str) -> str:
    """The channel of a queue of jobs: it wakes workers, and its name signs the jobs."""
    return _QUEUE + queue


def queue_of(channel: str) -> str | None:
    """The queue whose channel this is; ``None`` if it is none."""
    return channel.removeprefix(_QUEUE) if channel.startswith(_QUEUE) else None


def check_channel_name(name: str) -> str:
    """Return a channel's name if it is one.

    Raises:
        TypeError: It is not a ``str``.
        InvalidChannelName: It is empty, longer than 255 characters, or has
            control characters or lone surrogates.
    """
    if not isinstance(name, str):
        raise TypeError(f"a channel's name is a str, not {type(name).__name__}")
    if not name:
        raise InvalidChannelName("a channel's name must not be empty")
    if len(name) > CHANNEL_NAME_MAX:
        raise InvalidChannelName(
            f"a channel's name has at most {CHANNEL_NAME_MAX} characters, "
            f"this has {len(name)}"
        )
    if not _CONTROL_CHARACTERS.isdisjoint(name):
        raise InvalidChannelName(f"a channel's name has no control characters: {name!r}")
    if not name.isascii() and any("\ud800" <= each <= "\udfff" for each in name):
        raise InvalidChannelName(f"a channel's name is valid Unicode: {name!r}")
    return name


@dataclass(frozen=True, slots=True)
class Position:
    """Where a channel stands.

    Attributes:
        epoch: Life of the history; another epoch means another history.
        offset: Number of the last message, counted from 1 without gaps.
    """

    epoch: str
    offset: int


class Times(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """When a job may run, in Unix seconds; 0 for any time.

    Attributes:
        due_at: Not before.
        expires_at: Not after.
    """

    due_at: float = 0.0
    expires_at: float = 0.0


class Header(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What travels with a payload, as JSON, in one line before it.

    Attributes:
        id: Unguessable, the same for every receiver.
        event: ``create``, ``update``, ``delete`` or the publisher's own word.
        sent_at: Unix time in seconds at the publisher.
        model: ``app_label.modelname`` of a published row, else empty.
        pk: The row's primary key as text, else empty.
        exclude: Id of a connection that must not get the message.
        info: Of a message that a client published: who it was, as other clients are told.
        audience: `SNAPSHOT`, `EVERYONE`, or ``""`` for an ordinary message.
        fields: Of a snapshot: the only fields its publisher wants shown.
        times: Of a job: when it may run.
    """

    id: str
    event: str = ""
    sent_at: float = 0.0
    model: str = ""
    pk: str = ""
    exclude: str = ""
    info: dict[str, Any] | None = None
    audience: str = ""
    fields: list[str] | None = None
    times: Times | None = None


def new_header(
    event: str = "",
    *,
    model: str = "",
    pk: str = "",
    exclude: str = "",
    info: dict[str, Any] | None = None,
    audience: str = "",
    fields: list[str] | None = None,
) -> Header:
    """A header for a message that is born now."""
    return Header(
        id=os.urandom(16).hex(),
        event=event,
        sent_at=time.time(),
        model=model,
        pk=pk,
        exclude=exclude,
        info=info,
        audience=audience,
        fields=fields,
    )


class Message:
    """One message as a process received it; shared by all who listen.

    Attributes:
        channel: The channel's name.
        header: See `Header`.
        raw: The payload as the JSON bytes its publisher encoded.
        position: Epoch and offset; offset 0 and epoch ``""`` without history.
        size_bytes: What it takes in a process' queues.
        is_judged: Whether each listener gets its own view of it, or nothing: a `Judged`.
    """

    is_judged = False

    def __init__(
        self, channel: str, header: Header, raw: bytes, position: Position
    ) -> None:
        self.channel = channel
        self.header = header
        self.raw = raw
        self.position = position
        self.size_bytes = len(raw)
        # Of a view: the message it was rendered from.
        self.source: Judged | None = None
        # What an upper floor made of the message, once for all its listeners.
        self.shared: Any = None
        # The same for those who come back to the live endpoint: what their replies hold.
        self.publication: Any = None

    @cached_property
    def payload(self) -> Any:
        """The payload as Python values, decoded once per process."""
        return codec.decode(self.raw)

    @property
    def event(self) -> str:
        return self.header.event

    @property
    def id(self) -> str:
        return self.header.id

    @property
    def model(self) -> str:
        return self.header.model

    @property
    def pk(self) -> str:
        return self.header.pk

    def __repr__(self) -> str:
        return (
            f"<Message {self.event or '-'} on {self.channel!r} at {self.position.offset}: "
            f"{self.raw[:60]!r}>"
        )


class Judged(Message):
    """A message of which each audience gets its own view, or nothing.

    Sealed: whoever takes its ``raw`` or ``payload`` for a message's finds ``null``, so that
    a path that knows no audiences shows nothing to anybody.

    Attributes:
        stored: What the publisher sent: a row in Django's form. For servers only.
        views: What each audience gets; ``None`` for nothing. Filled by ``hub.lanes``; an
            audience that is missing was not asked for.
        is_for_nobody: It is withheld from all, without asking.
    """

    is_judged = True

    def __init__(
        self, channel: str, header: Header, stored: bytes, position: Position
    ) -> None:
        super().__init__(channel, header, _SEALED, position)
        self.stored = stored
        self.size_bytes = len(stored)
        self.views: dict[Any, Message | None] = {}
        self.is_for_nobody = False

    def opened(self) -> Message:
        """The stored row as a message, for code that stays on the server."""
        return Message(self.channel, self.header, self.stored, self.position)

    def view(self, raw: bytes) -> Message:
        """What one audience gets."""
        view = Message(self.channel, self.header, raw, self.position)
        view.source = self
        return view


_SEALED = b"null"


def message_of(channel: str, header: Header, raw: bytes, position: Position) -> Message:
    """A message as it came from a broker: a snapshot is sealed."""
    kind = Judged if header.audience == SNAPSHOT else Message
    return kind(channel, header, raw, position)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before the broker gave it a position.

    Attributes:
        channel: The channel's name, checked.
        header: See `Header`.
        raw: The payload as client-ready JSON, without a newline.
        options: What holds for the channel.
        joins_history: Keep it only where the channel has a history already: a plain
            value on a channel that no rule gives a history.
        version: Value of the row's ``PUBLISH_VERSION`` field, or ``None``. The
            broker drops a draft whose version is older than the row's last one.
    """

    channel: str
    header: Header
    raw: bytes
    options: ChannelOptions = field(default=ChannelOptions())
    version: int | None = None
    joins_history: bool = False
