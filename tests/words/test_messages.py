"""Names, headers and the wire."""

import pytest

from redis_pubsub import codec, wire
from redis_pubsub.exceptions import InvalidChannelName, InvalidPayload, MalformedMessage
from redis_pubsub.messages import Position, check_channel_name, new_header


@pytest.mark.parametrize(
    "name", ["news", "ada:messages", "a b", "日本", "x" * 255, "{a}%*?"]
)
def test_a_channel_may_have_any_printable_name_of_255_characters(name):
    """Colons, blanks, braces and other scripts are fine."""
    assert check_channel_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\x00b", "a\x85b", "\ud800"])
def test_a_name_that_cannot_be_one_is_refused_with_the_rule(name):
    """Empty, too long, control characters, broken Unicode: ValueError that says which."""
    with pytest.raises(InvalidChannelName, match="channel's name"):
        check_channel_name(name)


def test_a_name_that_is_no_text_is_a_type_error():
    """`publish(42, …)` names the type."""
    with pytest.raises(TypeError, match="int"):
        check_channel_name(42)


@pytest.mark.parametrize("key", ["", "a shared key"], ids=["plain", "signed"])
def test_a_message_survives_the_wire_with_its_position(key):
    """What a broker frames is what a process parses, signed or not."""
    envelope = wire.Envelope(key)
    header = new_header("create", model="shop.message", pk="7", exclude="abc")

    data = wire.frame(
        envelope.header("news", header, b'{"a":1}'), b'{"a":1}', Position("epoch", 5)
    )
    message = envelope.parse("news", data)

    assert message.header == header
    assert message.payload == {"a": 1}
    assert message.position == Position("epoch", 5)


GARBAGE = [
    b"",
    b"\n",
    b"garbage",
    b'2:0::{"id":"x"}\n{}',
    b'1:x::{"id":"x"}\n{}',
    b'1:0:{"id":"x"}\n{}',
    b'1:+1:e:{"id":"x"}\n{}',
    b'1: 1:e:{"id":"x"}\n{}',
    b'1:1_0:e:{"id":"x"}\n{}',
    b"1:" + b"9" * 17 + b':e:{"id":"x"}\n{}',
    b"1:" + b"9" * 5_000 + b':e:{"id":"x"}\n{}',
    b'1:0::{"id":"x"\n{}',
    b"1:0::{}\n{}",
    b'1:0::{"id":"x"}\n{"a":',
    b'1:0::{"id":"x"}\n{} {}',
    b'1:0::{"id":"x"}\n{"a":\n1}',
    b'1:0::{"id":"x"}\n"\xff"',
    b'1:0::{"id":"x"}\nNaN',
    b'1:0::{"id":"x"}\n' + b"[" * 10_000 + b"]" * 10_000,
    b'1:0:\xff:{"id":"x"}\n{}',
    b'1:0::{"id":5}\n{}',
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_a_channel_is_named_so(data):
    """Another version, half a document, a line break, bad UTF-8, deep nesting."""
    with pytest.raises(MalformedMessage):
        wire.Envelope().parse("news", data)


def test_a_signed_process_believes_only_what_was_signed_with_its_key():
    """Row 22: a forged, altered or replayed-elsewhere envelope is malformed."""
    ours, theirs = wire.Envelope("ours"), wire.Envelope("theirs")
    header, raw = new_header("create"), b'{"a":1}'

    def framed(envelope, channel="news", sent=raw):
        return wire.frame(envelope.header(channel, header, raw), sent)

    assert ours.parse("news", framed(ours)).payload == {"a": 1}
    for forged in (
        framed(wire.Envelope()),
        framed(theirs),
        framed(ours, channel="other"),
        framed(ours, sent=b'{"a":2}'),
        framed(ours).replace(b"create", b"delete"),
    ):
        with pytest.raises(MalformedMessage, match="signature"):
            ours.parse("news", forged)


def test_values_that_are_not_json_are_refused_at_the_call():
    """A set in it is fine for JSON readers as a list; an object is a TypeError."""
    assert codec.encode({"when": None, "tags": ["a"]}) == b'{"when":null,"tags":["a"]}'
    with pytest.raises(TypeError):
        codec.encode(object())
    loop: list = []
    loop.append(loop)
    with pytest.raises(InvalidPayload, match="nested"):
        codec.encode(loop)


def test_a_pretty_printed_document_becomes_one_line():
    """What a serializer returns may have line breaks; what travels has none."""
    assert codec.one_line('{\n "a": [1,\r\n 2]}') == b'{"a":[1,2]}'
    with pytest.raises(InvalidPayload):
        codec.one_line("{\n")
