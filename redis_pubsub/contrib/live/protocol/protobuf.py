"""The Protobuf form: the same commands and replies, with payloads as bytes fields.

Every message is preceded by its length as a varint; a lone zero byte is a ping or pong.
The push of a publication is spliced together around the payload's bytes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Raw, Struct

from ....codes import Code
from ....messages import Message
from . import commands, schema
from .commands import Command
from .json import BadRequest, encode
from .results import Result, SubscribePush, SubscribeResult, tags

SEPARATOR = b""
PING = b"\x00"

_CHANNEL, _PUB, _MESSAGE, _PUSH = 2, 4, 8, 4
_DATA, _INFO, _OFFSET, _TAGS = 4, 5, 6, 7


def decode(data: bytes) -> list[Command]:
    """The commands of a frame.

    Raises:
        BadRequest: There is none, or one that is malformed.
    """
    found = []
    begin = 0
    while begin < len(data):
        size, begin = _read_varint(data, begin)
        end = begin + size
        if end > len(data):
            raise BadRequest("a command is cut off")
        try:
            message = schema.Command.FromString(data[begin:end])
        except DecodeError as error:
            raise BadRequest(str(error)) from None
        found.append(_struct(message, Command))
        begin = end
    if not found:
        raise BadRequest("an empty frame")
    return found


def reply(command_id: int, kind: str, result: Result) -> bytes:
    """The answer to a command that was carried out."""
    message = schema.Reply(id=command_id)
    _fill(getattr(message, kind), result)
    return _delimited(message.SerializeToString())


def error(command_id: int, code: Code) -> bytes:
    """The answer to a command that was not."""
    message = schema.Reply(id=command_id)
    message.error.code, message.error.message = code.code, code.reason
    message.error.temporary = code.temporary
    return _delimited(message.SerializeToString())


def publication(message: Message) -> bytes:
    """A message as clients know it."""
    parts = [_bytes(_DATA, message.raw)]
    if message.header.info is not None:
        info = schema.CLASSES["ClientInfo"]()
        # A foreign producer's may be anything: then who it was is not said.
        with contextlib.suppress(msgspec.ValidationError):
            _fill_info(info, encode(message.header.info))
            parts.append(_bytes(_INFO, info.SerializeToString()))
    if message.position.offset:
        parts.append(b"%c%s" % (_OFFSET << 3, _varint(message.position.offset)))
    for name, value in tags(message).items():
        entry = _bytes(1, name.encode()) + _bytes(2, value.encode())
        parts.append(_bytes(_TAGS, entry))
    return b"".join(parts)


def push(message: Message) -> bytes:
    """A message on its way to those who hear its channel."""
    body = _bytes(_CHANNEL, message.channel.encode()) + _bytes(_PUB, publication(message))
    return _delimited(_bytes(_PUSH, body))


def presence_push(channel: str, kind: str, info: bytes) -> bytes:
    """Somebody came (``join``) or went (``leave``)."""
    message = schema.Reply()
    message.push.channel = channel
    _fill_info(getattr(message.push, kind).info, info)
    return _delimited(message.SerializeToString())


def subscribe_push(channel: str, result: SubscribeResult) -> bytes:
    """The server has subscribed the client to a channel."""
    message = schema.Reply()
    message.push.channel = channel
    _fill(message.push.subscribe, SubscribePush.of_result(result))
    return _delimited(message.SerializeToString())


def message_push(raw: bytes) -> bytes:
    """Something for this connection alone, of no channel."""
    return _delimited(_bytes(_PUSH, _bytes(_MESSAGE, _bytes(1, raw))))


def unsubscribe_push(channel: str, code: Code) -> bytes:
    message = schema.Reply()
    message.push.channel = channel
    message.push.unsubscribe.code = code.code
    message.push.unsubscribe.reason = code.reason
    return _delimited(message.SerializeToString())


def disconnect_push(code: Code) -> bytes:
    message = schema.Reply()
    message.push.disconnect.code, message.push.disconnect.reason = code.code, code.reason
    return _delimited(message.SerializeToString())


# -- structs and messages ----------------------------------------------------------------


def _struct(message: Any, kind: Any) -> Any:
    """A request as `commands` has it."""
    values = {}
    for field, value in message.ListFields():
        name = field.name
        if name not in kind.__struct_fields__:
            continue
        if name == "offset" and value > commands.OFFSET_MAX:
            raise BadRequest("no history is so long")
        values[name] = _value(field, value)
    return kind(**values)


def _value(field: Any, value: Any) -> Any:
    if field.type == field.TYPE_BYTES:
        return Raw(value)
    if field.type != field.TYPE_MESSAGE:
        return value
    if field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _value(entry, each) for key, each in value.items()}
    return _struct(value, getattr(commands, field.message_type.name))


def _fill(message: Any, result: Struct) -> None:
    """Write a result into its message."""
    message.SetInParent()
    for name in result.__struct_fields__:
        value = getattr(result, name)
        if isinstance(value, dict):
            for key, each in value.items():
                if isinstance(each, Raw):
                    _fill_info(getattr(message, name)[key], bytes(each))
                else:
                    _fill(getattr(message, name)[key], each)
        elif isinstance(value, list):
            for each in value:
                getattr(message, name).add().MergeFromString(publication(each))
        elif value:
            setattr(message, name, bytes(value) if isinstance(value, Raw) else value)


class _Info(Struct):
    user: str = ""
    client: str = ""
    conn_info: Raw = commands.NO_DATA
    chan_info: Raw = commands.NO_DATA


_info_decoder = msgspec.json.Decoder(_Info)


def _fill_info(message: Any, info: bytes) -> None:
    known = _info_decoder.decode(info)
    message.user, message.client = known.user, known.client
    message.conn_info, message.chan_info = bytes(known.conn_info), bytes(known.chan_info)


# -- bytes -------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(data: bytes, begin: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(data[begin : begin + 5]):
        number |= (byte & 127) << (7 * place)
        if byte < 128:
            return number, begin + place + 1
    raise BadRequest("no length before a command")


def _bytes(field: int, value: bytes) -> bytes:
    """A field of length-delimited type."""
    return b"%c%s%s" % (field << 3 | 2, _varint(len(value)), value)


def _delimited(message: bytes) -> bytes:
    return _varint(len(message)) + message
