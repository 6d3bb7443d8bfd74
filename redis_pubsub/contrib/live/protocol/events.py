r"""Plain server-sent events: a block for each message, and ids that say where a client is.

::

    id: 4f0c2a91:17
    event: create
    data: {"text":"hello"}

The id is the channel's position. A stream of several channels has all their positions in
one id, ``4f0c2a91:17,-,77aa01bc:4``, in the order in which the client named them; ``-`` is
a channel without one. It ends the last block of each write: the blocks before it are the
same bytes for all clients of the process.

Source: the "Server-sent events" chapter of the HTML standard.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from ....codes import Code
from ....messages import Message, Position
from . import json
from .forms import Form, chunk

NO_POSITION = "-"
GONE = Position("?", 0)
"""Of a client whose id says nothing that can be recovered from: no epoch is called so."""
FROM_THE_FIRST = Position("", 0)
RETRY_S = (0.5, 2.5)
"""When clients come back after an end that was not theirs."""
_position = re.compile(r"([0-9A-Za-z_-]{1,64}):([0-9]{1,15})", re.ASCII)
_BEHIND = b"\n\n: "


def named_block(message: Message) -> bytes:
    """A message of a stream of one channel."""
    position = message.position
    if not position.offset:
        return _body(message)
    return b"id: %s:%d\n%s" % (position.epoch.encode(), position.offset, _body(message))


def placed_block(message: Message) -> bytes:
    """A message of a stream of several channels; its position is a comment, in which
    `position_in` finds it."""
    position = message.position
    if not position.offset:
        return b": \n" + _body(message)
    return b": %s:%d\n%s" % (position.epoch.encode(), position.offset, _body(message))


def _body(message: Message) -> bytes:
    data = b"data: %s\n\n" % message.raw
    if not message.event:
        return data
    # One line, whatever a publisher calls what has happened.
    event = " ".join(message.event.splitlines())
    return b"event: %s\n%s" % (event.encode(), data)


def position_in(blocks: bytes) -> str:
    """The last position in what `placed_block` made; ``""`` if there is none."""
    end = len(blocks)
    while True:
        begin = blocks.rfind(_BEHIND, 0, end)
        line = begin + len(_BEHIND) if begin >= 0 else 2
        found = blocks[line : blocks.index(b"\n", line)]
        if found or begin < 0:
            return found.decode()
        end = begin + 2


def with_id(blocks: bytes, positions: Sequence[str]) -> bytes:
    """Blocks, of which the last one brings the client where it is by then."""
    return b"%sid: %s\n\n" % (blocks[:-1], ",".join(positions).encode())


def id_block(positions: Sequence[str]) -> bytes:
    """An id alone, which no event comes with."""
    return b"id: %s\n\n" % ",".join(positions).encode()


def reset_block(channel: str) -> bytes:
    """Messages of a channel may be missing."""
    return b'event: reset\ndata: {"channel":%s}\n\n' % json.encode(channel)


def text_of(position: Position | None) -> str:
    """A position as a part of an id."""
    if position is None or not position.epoch:
        return NO_POSITION
    return f"{position.epoch}:{position.offset}"


def positions_of(last_id: str, channels: int) -> list[Position]:
    """Where a client is that comes back with an id. An id that is none of ours, or of
    other channels, recovers nothing."""
    parts = last_id.strip().split(",")
    if len(parts) != channels:
        return [GONE] * channels
    return [_position_of(part) for part in parts]


def _position_of(part: str) -> Position:
    if part == NO_POSITION:
        return FROM_THE_FIRST
    found = _position.fullmatch(part)
    return Position(found[1], int(found[2])) if found else GONE


def retry_block(seconds: float, why: str) -> bytes:
    """When to come back, and for people why."""
    return b": %s\nretry: %d\n\n" % (" ".join(why.splitlines()).encode(), seconds * 1000)


class EventForm(Form):
    """How plain events travel."""

    def __init__(self, wrap: Callable[[bytes], bytes]) -> None:
        super().__init__("events", json, wrap, envelop=wrap)
        self.ping = wrap(b":\n\n")

    def _publication(self, message: Message) -> bytes:
        return self.wrap(named_block(message))

    def goodbye(self, code: Code) -> bytes:
        """A stream's end is all that a client is told; it comes back by itself."""
        why = f"{code.code} {code.reason}"
        return self.wrap(retry_block(random.uniform(*RETRY_S), why))


EVENTS = EventForm(chunk)
# For proxies that speak HTTP/1.0 to us: the end of the connection ends the stream.
EVENTS_UNCHUNKED = EventForm(bytes)
