r"""A message as it stands on a Redis channel.

``1:<offset>:<epoch>:<header>\n<payload>``: a version, the position that the publish
script gave, the header as JSON in one line, the payload's bytes. A producer in another
language needs nothing else (docs/reference/wire.rst).
"""

from __future__ import annotations

import base64
import hmac

import msgspec

from . import codec
from .exceptions import InvalidPayload, MalformedMessage
from .messages import Header, Message, Position, message_of

VERSION = b"1"
NOWHERE = Position("", 0)
"""Of a message without history."""

_header_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(Header)
_OFFSET_DIGITS = 16
"""Lua counts to 2 to the 53rd."""
_SIGNATURE = b',"sig":"'


class Envelope:
    """Writes and reads messages; with a key, signs them and believes only signed ones.

    Args:
        key: ``REDIS_PUBSUB["envelope_key"]``, shared by all publishers and servers.
            Epoch and offset are Redis' own and not signed.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key.encode()

    def header(self, channel: str, header: Header, raw: bytes) -> bytes:
        """A header as it travels with a payload."""
        encoded = _header_encoder.encode(header)
        if not self._key:
            return encoded
        signature = self._sign(channel, encoded, raw)
        return b'%s%s%s"}' % (encoded[:-1], _SIGNATURE, signature)

    def parse(self, channel: str, data: bytes) -> Message:
        """Read what came over a Redis channel. Nothing in it is trusted.

        Raises:
            MalformedMessage: Another version, a cut header, a payload that is not
                JSON, a signature that is missing or wrong.
        """
        head, newline, raw = data.partition(b"\n")
        parts = head.split(b":", 3)
        if not newline or len(parts) != 4 or parts[0] != VERSION:
            raise MalformedMessage(f"not a version 1 message: {data[:40]!r}")
        try:
            offset = int(parts[1]) if len(parts[1]) <= _OFFSET_DIGITS else -1
            if not (parts[1].isdigit() and offset >= 0):
                raise ValueError
            epoch = parts[2].decode("ascii")
        except ValueError:
            raise MalformedMessage(f"no position in {data[:40]!r}") from None
        position = Position(epoch, offset) if epoch or offset else NOWHERE
        return self.parse_entry(channel, parts[3], raw, position)

    def parse_entry(
        self, channel: str, header: bytes, raw: bytes, position: Position
    ) -> Message:
        """Read the parts of a message, as a history stores them.

        Raises:
            MalformedMessage: See `parse`.
        """
        if self._key:
            header = self._verified(channel, header, raw)
        try:
            decoded = _header_decoder.decode(header)
            codec.check(raw)
        except (
            msgspec.MsgspecError,
            UnicodeError,
            RecursionError,
            InvalidPayload,
        ) as error:
            raise MalformedMessage(str(error)) from error
        return message_of(channel, decoded, raw, position)

    def _verified(self, channel: str, header: bytes, raw: bytes) -> bytes:
        """The header without its signature, if that is right."""
        unsigned, mark, rest = header.rpartition(_SIGNATURE)
        encoded = unsigned + b"}"
        if not mark or not hmac.compare_digest(
            rest[:-2], self._sign(channel, encoded, raw)
        ):
            raise MalformedMessage("the signature is missing or wrong")
        return encoded

    def _sign(self, channel: str, header: bytes, raw: bytes) -> bytes:
        signed = b"\n".join((channel.encode(), header, raw))
        digest = hmac.digest(self._key, signed, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=")


def frame(header: bytes, raw: bytes, position: Position | None = None) -> bytes:
    """What `Envelope.parse` reads: for brokers that do not frame in Lua."""
    offset, epoch = (position.offset, position.epoch) if position else (0, "")
    return b"1:%d:%s:%s\n%s" % (offset, epoch.encode(), header, raw)
