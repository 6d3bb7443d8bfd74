"""The JSON form. Payloads are spliced in as the bytes their publisher encoded."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from ....codes import Code
from ....messages import Message
from .commands import Command
from .results import Result, SubscribePush, SubscribeResult, tags

SEPARATOR = b"\n"
PING = b"{}"

_decoder = msgspec.json.Decoder(Command)


class BadRequest(ValueError):
    """What came is no command."""


def _messages(value: Any) -> Any:
    if isinstance(value, Message):
        if value.publication is None:
            # In the replies to all who come back at once.
            value.publication = Raw(publication(value))
        rendered: Raw = value.publication
        return rendered
    raise TypeError(type(value).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_messages)
encode = _encoder.encode


def decode(data: bytes | str) -> list[Command]:
    """The commands of a frame, one a line.

    Raises:
        BadRequest: There is none, or one that is malformed.
    """
    try:
        commands: list[Command] = _decoder.decode_lines(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequest(str(error)) from None
    if not commands:
        raise BadRequest("an empty frame")
    return commands


def reply(command_id: int, kind: str, result: Result) -> bytes:
    """The answer to a command that was carried out."""
    return b'{"id":%d,"%s":%s}' % (command_id, kind.encode(), encode(result))


def error(command_id: int, code: Code) -> bytes:
    """The answer to a command that was not."""
    temporary = b',"temporary":true' if code.temporary else b""
    return b'{"id":%d,"error":{"code":%d,"message":%s%s}}' % (
        command_id,
        code.code,
        encode(code.reason),
        temporary,
    )


def publication(message: Message) -> bytes:
    """A message as clients know it."""
    known, info, offset = tags(message), message.header.info, message.position.offset
    if not (known or offset) and info is None:
        # Plain values without a history, as on a channel for each user.
        return b'{"data":%s}' % message.raw
    parts = [b'{"data":', message.raw]
    if offset:
        parts.append(b',"offset":%d' % offset)
    if info is not None:
        parts += [b',"info":', encode(info)]
    if known:
        parts += [b',"tags":', encode(known)]
    parts.append(b"}")
    return b"".join(parts)


def push(message: Message) -> bytes:
    """A message on its way to those who hear its channel."""
    return b'{"push":{"channel":%s,"pub":%s}}' % (
        encode(message.channel),
        publication(message),
    )


def presence_push(channel: str, kind: str, info: bytes) -> bytes:
    """Somebody came (``join``) or went (``leave``)."""
    return b'{"push":{"channel":%s,"%s":{"info":%s}}}' % (
        encode(channel),
        kind.encode(),
        info,
    )


def subscribe_push(channel: str, result: SubscribeResult) -> bytes:
    """The server has subscribed the client to a channel."""
    return b'{"push":{"channel":%s,"subscribe":%s}}' % (
        encode(channel),
        encode(SubscribePush.of_result(result)),
    )


def message_push(raw: bytes) -> bytes:
    """Something for this connection alone, of no channel."""
    return b'{"push":{"message":{"data":%s}}}' % raw


def unsubscribe_push(channel: str, code: Code) -> bytes:
    return b'{"push":{"channel":%s,"unsubscribe":{"code":%d,"reason":%s}}}' % (
        encode(channel),
        code.code,
        encode(code.reason),
    )


def disconnect_push(code: Code) -> bytes:
    return b'{"push":{"disconnect":{"code":%d,"reason":%s}}}' % (
        code.code,
        encode(code.reason),
    )
