r"""A message as it stands on a Redis channel.

``1:<offset>:<epoch>:<header>\n<payload>``: a version, the position that the publish
script gave, the header as JSON in one line, the payload's bytes. A producer in another
language needs nothing else (docs/reference/wire.rst).
"""

from __future__ import annotations

import msgspec

from . import codec
from .exceptions import InvalidPayload, MalformedMessage
from .messages import Header, Message, Position

VERSION = b"1"

_header_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(Header)


def encode_header(header: Header) -> bytes:
    return _header_encoder.encode(header)


def frame(header: bytes, raw: bytes, position: Position | None = None) -> bytes:
    """What `parse` reads: for brokers that do not frame in Lua."""
    offset, epoch = (position.offset, position.epoch) if position else (0, "")
    return b"1:%d:%s:%s\n%s" % (offset, epoch.encode(), header, raw)


def parse(channel: str, data: bytes) -> Message:
    """Read what came over a Redis channel. Nothing in it is trusted.

    Raises:
        MalformedMessage: Another version, a cut header, a payload that is not JSON.
    """
    head, newline, raw = data.partition(b"\n")
    parts = head.split(b":", 3)
    if not newline or len(parts) != 4 or parts[0] != VERSION:
        raise MalformedMessage(f"not a version 1 message: {data[:40]!r}")
    try:
        offset = int(parts[1])
        epoch = parts[2].decode("ascii")
    except ValueError:
        raise MalformedMessage(f"no position in {data[:40]!r}") from None
    return parse_entry(channel, parts[3], raw, Position(epoch, offset))


def parse_entry(channel: str, header: bytes, raw: bytes, position: Position) -> Message:
    """Read the parts of a message, as a history stores them.

    Raises:
        MalformedMessage: The header or the payload is not JSON of the right shape.
    """
    try:
        decoded = _header_decoder.decode(header)
        codec.check(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidPayload) as error:
        raise MalformedMessage(str(error)) from error
    return Message(channel, decoded, raw, position)
