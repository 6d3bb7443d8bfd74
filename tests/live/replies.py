"""Messages to write, and what was written, as a client reads it."""

from __future__ import annotations

import json

from centrifuge.protocol import client_pb2
from google.protobuf.internal.decoder import _DecodeVarint32
from google.protobuf.json_format import MessageToDict

from redis_pubsub.messages import Message, Position, new_header

INFO = {"user": "7", "client": "abc", "conn_info": {"name": "Ada"}}


def a_message(raw=b'{"n":1}', offset=0, **header):
    position = Position("kXwZ", offset) if offset else Position("", 0)
    return Message("room:1", new_header(**header), raw, position)


def in_json(reply):
    assert b"\n" not in reply
    return json.loads(reply)


def in_protobuf(data):
    """What the client library reads of one reply with its length."""
    size, begin = _DecodeVarint32(data, 0)
    assert begin + size == len(data)
    return client_pb2.Reply.FromString(data[begin:])


def as_dict(message):
    return MessageToDict(message, preserving_proto_field_name=True)
