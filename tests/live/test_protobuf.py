"""The Protobuf form, as its own library reads and writes it."""

from __future__ import annotations

import json

import pytest
from centrifuge.protocol import client_pb2
from msgspec import Raw

from redis_pubsub.codes import Disconnects, Errors, Unsubscribes
from redis_pubsub.contrib.live.protocol import json as json_codec
from redis_pubsub.contrib.live.protocol import protobuf as protobuf_codec
from redis_pubsub.contrib.live.protocol.commands import KINDS
from redis_pubsub.contrib.live.protocol.json import BadRequest
from redis_pubsub.contrib.live.protocol.results import (
    ConnectResult,
    Empty,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    RefreshResult,
    RPCResult,
    SubscribeResult,
)
from redis_pubsub.contrib.live.protocol.schema import CLASSES
from redis_pubsub.messages import Message, Position, new_header

from .replies import INFO, a_message, as_dict, in_json, in_protobuf


def commands_of(*commands):
    frame = b""
    for command in commands:
        data = command.SerializeToString()
        frame += protobuf_codec._varint(len(data)) + data
    return protobuf_codec.decode(frame)


def test_commands_of_the_client_library_are_understood():
    """Each request, each field that this server reads."""
    request = client_pb2.Command(id=4_294_967_295)
    request.connect.token, request.connect.data = "t", b'{"v":3}'
    request.connect.subs["user:7"].recover = True
    request.connect.subs["user:7"].offset = 41
    request.connect.headers["Authorization"] = "Bearer x"
    (command,) = commands_of(request)
    assert command.id == 4_294_967_295 and command.kind == "connect"
    assert command.connect.token == "t" and bytes(command.connect.data) == b'{"v":3}'
    assert command.connect.subs["user:7"].recover
    assert command.connect.subs["user:7"].offset == 41
    assert command.connect.headers == {"Authorization": "Bearer x"}

    wish = client_pb2.Command(id=2)
    wish.subscribe.channel, wish.subscribe.epoch, wish.subscribe.flag = "a", "e", 3
    history = client_pb2.Command(id=3)
    history.history.channel, history.history.limit = "a", -1
    history.history.since.offset, history.history.reverse = 5, True
    first, second = commands_of(wish, history)
    assert (first.subscribe.channel, first.subscribe.epoch) == ("a", "e")
    assert first.subscribe.flag == 3 and bytes(first.subscribe.tf) == b""
    assert (second.history.limit, second.history.since.offset) == (-1, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_request_is_a_request(kind):
    """proto3 leaves zeros out: a request without fields is there all the same."""
    request = client_pb2.Command(id=1)
    getattr(request, kind).SetInParent()

    (command,) = commands_of(request)

    assert command.kind == kind


def test_a_filter_is_seen_though_it_is_not_understood():
    """§5: `tf` is refused, never ignored; unknown fields are ignored."""
    request = client_pb2.Command(id=1)
    request.subscribe.channel = "a"
    encoded = request.SerializeToString()
    inner = request.subscribe.SerializeToString() + b"\x6a\x02\x0a\x00" + b"\xfa\x3e\x01x"
    frame = encoded.replace(b"\x2a\x03", b"\x2a%c" % len(inner))[:4] + inner

    (command,) = protobuf_codec.decode(b"%c%s" % (len(frame), frame))

    assert command.subscribe.channel == "a" and bytes(command.subscribe.tf)


def test_a_zero_byte_is_a_pong():
    """An empty command; several go together."""
    assert [command.kind for command in protobuf_codec.decode(b"\x00\x00")] == ["", ""]
    assert protobuf_codec.PING == b"\x00"


def offset_too_large():
    request = client_pb2.Command(id=1)
    request.subscribe.channel, request.subscribe.recover = "a", True
    request.subscribe.offset = 2**64 - 1
    data = request.SerializeToString()
    return b"%c%s" % (len(data), data)


MALFORMED = {
    "nothing": b"",
    "cut": b"\x05\x08\x01",
    "a length without end": b"\xff\xff\xff\xff\xff\xff",
    "a length that is cut": b"\x80",
    "a length beyond the frame": b"\xff\xff\xff\xff\x0f",
    "no message": b"\x03\xff\xff\xff",
    "a text that is no UTF-8": b"\x08\x08\x01\x22\x04\x0a\x02\xff\xff",
    "a good one, then a cut one": b"\x00\x05\x08",
    "an offset that no history has": offset_too_large(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_protobuf_is_a_bad_request(data):
    """Never another exception: the connection ends with 3501."""
    with pytest.raises(BadRequest):
        protobuf_codec.decode(data)


def test_results_are_those_the_client_library_reads():
    """Each result, with what is in it."""
    subs = {"user:7": SubscribeResult(epoch="e", offset=3, publications=[a_message()])}
    connect = ConnectResult("c", "v", True, 9, subs=subs, ping=25, pong=True, node="n")
    reply = in_protobuf(protobuf_codec.reply(1, "connect", connect))
    assert (reply.id, reply.connect.client, reply.connect.version) == (1, "c", "v")
    assert (reply.connect.ttl, reply.connect.ping, reply.connect.pong) == (9, 25, True)
    assert reply.connect.subs["user:7"].publications[0].data == b'{"n":1}'

    history = HistoryResult([a_message(offset=1), a_message(offset=2)], "e", 2)
    reply = in_protobuf(protobuf_codec.reply(2, "history", history))
    assert [each.offset for each in reply.history.publications] == [1, 2]
    assert (reply.history.epoch, reply.history.offset) == ("e", 2)

    infos = PresenceResult({"abc": Raw(json.dumps(INFO).encode())})
    reply = in_protobuf(protobuf_codec.reply(3, "presence", infos))
    assert reply.presence.presence["abc"].user == "7"
    assert json.loads(reply.presence.presence["abc"].conn_info) == {"name": "Ada"}

    reply = in_protobuf(protobuf_codec.reply(4, "rpc", RPCResult(Raw(b"[1]"))))
    assert reply.rpc.data == b"[1]"
    stats = PresenceStatsResult(2, 1)
    reply = in_protobuf(protobuf_codec.reply(5, "presence_stats", stats))
    assert (reply.presence_stats.num_clients, reply.presence_stats.num_users) == (2, 1)
    refresh = RefreshResult("c", "v", True, 5)
    reply = in_protobuf(protobuf_codec.reply(6, "refresh", refresh))
    assert reply.refresh.expires and reply.refresh.ttl == 5


@pytest.mark.parametrize("kind", ["publish", "unsubscribe", "ping"])
def test_an_empty_result_is_a_result(kind):
    """The field is there, so that the client knows what was answered."""
    reply = in_protobuf(protobuf_codec.reply(7, kind, Empty()))

    assert reply.id == 7 and reply.HasField(kind)


def test_errors_and_ends_are_those_the_client_library_reads():
    """Code, text, `temporary`; the codes of the pushes."""
    error = in_protobuf(protobuf_codec.error(3, Errors.INTERNAL)).error
    assert (error.code, error.message, error.temporary) == (
        100,
        "internal server error",
        True,
    )
    push = in_protobuf(protobuf_codec.unsubscribe_push("a", Unsubscribes.EXPIRED)).push
    assert (push.channel, push.unsubscribe.code) == ("a", 2501)
    assert push.unsubscribe.reason == "subscription expired"
    push = in_protobuf(protobuf_codec.disconnect_push(Disconnects.SHUTDOWN)).push
    assert (push.disconnect.code, push.disconnect.reason) == (3001, "shutdown")
    for kind in ("join", "leave"):
        info = json.dumps(INFO).encode()
        push = in_protobuf(protobuf_codec.presence_push("a", kind, info)).push
        assert getattr(push, kind).info.client == "abc"


@pytest.mark.parametrize("size", [1, 126, 127, 128, 16_383, 16_384, 70_000])
@pytest.mark.parametrize("offset", [0, 1, 127, 128, 2**32, 2**63 - 1])
def test_spliced_pushes_are_what_the_library_would_write(size, offset):
    """Byte for byte, at every length of a varint."""
    raw = b'"%s"' % (b"x" * size)
    message = Message("room:é", new_header("é" * 64), raw, Position("e", offset))
    expected = client_pb2.Reply()
    expected.push.channel = "room:é"
    expected.push.pub.data, expected.push.pub.offset = raw, offset
    expected.push.pub.tags["event"] = "é" * 64

    assert in_protobuf(protobuf_codec.push(message)) == expected
    encoded = expected.SerializeToString()
    written = protobuf_codec._varint(len(encoded)) + encoded
    assert protobuf_codec.push(message) == written


def test_both_forms_say_the_same_of_a_publication():
    """Info and tags too."""
    message = a_message(offset=9, event="update", model="shop.message", pk="5", info=INFO)
    known = in_json(json_codec.push(message))["push"]["pub"]

    push = in_protobuf(protobuf_codec.push(message)).push.pub

    assert json.loads(push.data) == known["data"] and push.offset == known["offset"]
    assert dict(push.tags) == known["tags"]
    assert push.info.user == "7" and json.loads(push.info.conn_info) == {"name": "Ada"}
    assert as_dict(push.info)["client"] == "abc"


def test_the_table_of_fields_is_the_clients():
    """Every field this server knows has the client library's number, type and label."""
    theirs = client_pb2.DESCRIPTOR.message_types_by_name
    ours = {"Empty": (), "Presence": ("Join", "Leave")}
    for title, message in CLASSES.items():
        for name in ours.get(title, (title,)):
            for field in message.DESCRIPTOR.fields:
                if field.name in ("tf", "type"):
                    continue  # Newer than the library.
                known = theirs[name].fields_by_name[field.name]
                assert known.number == field.number, (title, field.name)
                assert known.is_repeated == field.is_repeated, (title, field.name)
                assert known.type == field.type, (title, field.name)
