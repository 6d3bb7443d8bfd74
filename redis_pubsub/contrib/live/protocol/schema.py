"""The protocol's messages as Protobuf knows them: names, numbers, types.

A table instead of generated code, so that it can be read; the package ``protobuf`` makes
the message classes of it.

Source: the public schema of the Centrifuge protocol (proto3, package
``centrifugal.centrifuge.protocol``), as far as this server reads or writes it.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "centrifugal.centrifuge.protocol"

MESSAGES = {
    "Error": "code=1 uint32, message=2 string, temporary=3 bool",
    "Command": (
        "id=1 uint32, connect=4 ConnectRequest, subscribe=5 SubscribeRequest, "
        "unsubscribe=6 UnsubscribeRequest, publish=7 PublishRequest, "
        "presence=8 PresenceRequest, presence_stats=9 PresenceStatsRequest, "
        "history=10 HistoryRequest, ping=11 PingRequest, send=12 SendRequest, "
        "rpc=13 RPCRequest, refresh=14 RefreshRequest, sub_refresh=15 SubRefreshRequest"
    ),
    "Reply": (
        "id=1 uint32, error=2 Error, push=4 Push, connect=5 ConnectResult, "
        "subscribe=6 SubscribeResult, unsubscribe=7 Empty, publish=8 Empty, "
        "presence=9 PresenceResult, presence_stats=10 PresenceStatsResult, "
        "history=11 HistoryResult, ping=12 Empty, rpc=13 RPCResult, "
        "refresh=14 RefreshResult, sub_refresh=15 SubRefreshResult"
    ),
    "Push": (
        "channel=2 string, pub=4 Publication, join=5 Presence, leave=6 Presence, "
        "unsubscribe=7 Unsubscribe, message=8 Message, subscribe=9 Subscribe, "
        "disconnect=11 Disconnect"
    ),
    "ClientInfo": "user=1 string, client=2 string, conn_info=3 bytes, chan_info=4 bytes",
    "Publication": "data=4 bytes, info=5 ClientInfo, offset=6 uint64, tags=7 texts",
    "Presence": "info=1 ClientInfo",
    "Message": "data=1 bytes",
    "Unsubscribe": "code=2 uint32, reason=3 string",
    "Subscribe": "recoverable=1 bool, epoch=4 string, offset=5 uint64, positioned=6 bool",
    "Disconnect": "code=1 uint32, reason=2 string",
    "ConnectRequest": (
        "token=1 string, data=2 bytes, subs=3 map SubscribeRequest, name=4 string, "
        "version=5 string, headers=6 texts"
    ),
    "ConnectResult": (
        "client=1 string, version=2 string, expires=3 bool, ttl=4 uint32, data=5 bytes, "
        "subs=6 map SubscribeResult, ping=7 uint32, pong=8 bool, session=9 string, "
        "node=10 string"
    ),
    "RefreshRequest": "token=1 string",
    "RefreshResult": "client=1 string, version=2 string, expires=3 bool, ttl=4 uint32",
    "SubscribeRequest": (
        "channel=1 string, token=2 string, recover=3 bool, epoch=6 string, "
        "offset=7 uint64, data=8 bytes, positioned=9 bool, recoverable=10 bool, "
        "join_leave=11 bool, tf=13 bytes, flag=14 int64, type=15 int32"
    ),
    "SubscribeResult": (
        "expires=1 bool, ttl=2 uint32, recoverable=3 bool, epoch=6 string, "
        "publications=7 list Publication, recovered=8 bool, offset=9 uint64, "
        "positioned=10 bool, data=11 bytes, was_recovering=12 bool"
    ),
    "SubRefreshRequest": "channel=1 string, token=2 string",
    "SubRefreshResult": "expires=1 bool, ttl=2 uint32",
    "UnsubscribeRequest": "channel=1 string",
    "PublishRequest": "channel=1 string, data=2 bytes",
    "PresenceRequest": "channel=1 string",
    "PresenceResult": "presence=1 map ClientInfo",
    "PresenceStatsRequest": "channel=1 string",
    "PresenceStatsResult": "num_clients=1 uint32, num_users=2 uint32",
    "StreamPosition": "offset=1 uint64, epoch=2 string",
    "HistoryRequest": (
        "channel=1 string, limit=7 int32, since=8 StreamPosition, reverse=9 bool"
    ),
    "HistoryResult": "publications=1 list Publication, epoch=2 string, offset=3 uint64",
    "RPCRequest": "data=1 bytes, method=2 string",
    "RPCResult": "data=1 bytes",
    "SendRequest": "data=1 bytes",
    "PingRequest": "",
    "Empty": "",
}

_field = re.compile(r"(\w+)=(\d+) (?:(map|list) )?(\w+)")
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
}


def _add_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str
) -> Any:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    return field


def _add_map(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str
) -> None:
    """A map is a repeated entry of key and value with an option that says so."""
    entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, kind)
    field = _add_field(message, name, number, f"{message.name}.{entry.name}")
    field.label = _Field.LABEL_REPEATED


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="redis_pubsub/centrifuge.proto", package=PACKAGE, syntax="proto3"
    )
    for title, fields in MESSAGES.items():
        message = file.message_type.add(name=title)
        for name, number, container, kind in _field.findall(fields):
            if container == "map" or kind == "texts":
                _add_map(message, name, int(number), "string" if kind == "texts" else kind)
            else:
                field = _add_field(message, name, int(number), kind)
                if container == "list":
                    field.label = _Field.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        title: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{PACKAGE}.{title}")
        )
        for title in MESSAGES
    }


CLASSES = _classes()
Command = CLASSES["Command"]
Reply = CLASSES["Reply"]
