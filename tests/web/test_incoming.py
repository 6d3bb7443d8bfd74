from __future__ import annotations

import random

import pytest

from redis_pubsub.web.incoming import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Broken,
    Flooded,
    Incoming,
)
from redis_pubsub.web.pace import Pace

FREE = Pace(0.0, 0.0, 0.0, 1.0, 0.0, 1.0)
MASK = b"\x37\xfa\x21\x3d"


def frame(first, payload=b"", mask=MASK):
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65_536:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(each ^ mask[i % 4] for i, each in enumerate(payload))


def all_of(incoming):
    found = []
    while (each := incoming.next()) is not None:
        found.append(each)
    return found


SAID = [
    (frame(0x81, b"hello"), [(TEXT, b"hello")]),
    (frame(0x89, b"there?"), [(PING, b"there?")]),
    (frame(0x82, bytes(range(256)) * 3), [(BINARY, bytes(range(256)) * 3)]),
    (frame(0x8A), [(PONG, b"")]),
    (
        frame(0x01, "grü".encode()[:3]) + frame(0x89) + frame(0x80, "grü".encode()[3:]),
        [(PING, b""), (TEXT, "grü".encode())],
    ),
    (frame(0x82, b"x" * 70_000, bytes(4)), [(BINARY, b"x" * 70_000)]),
    (frame(0x88, b"\x03\xe8bye"), [(CLOSE, b"\x03\xe8bye")]),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 1_460, 100_000])
def test_messages_are_whole_however_they_were_cut(step):
    """Every width of head, masks of zeros and others, controls between fragments."""
    incoming = Incoming(FREE, 100_000)
    sent = b"".join(each for each, _ in SAID)
    found = []

    for begin in range(0, len(sent), step):
        incoming.feed(sent[begin : begin + step])
        found += all_of(incoming)

    assert found == [each for _, expected in SAID for each in expected]
    assert len(incoming) == 0


BROKEN = {
    "no mask": (b"\x81\x01x", 1002),
    "a reserved bit": (frame(0xC1, b"x"), 1002),
    "an opcode of nobody": (frame(0x83, b"x"), 1002),
    "a control opcode of nobody": (frame(0x8B), 1002),
    "a ping in parts": (frame(0x09), 1002),
    "a long ping": (frame(0x89, b"x" * 126), 1002),
    "a continuation of nothing": (frame(0x80, b"x"), 1002),
    "a message within a message": (frame(0x01, b"x") + frame(0x81, b"y"), 1002),
    "no text": (frame(0x81, b"\xff"), 1007),
    "half a letter at the end": (frame(0x01, b"a") + frame(0x80, b"\xc3"), 1007),
    "a surrogate": (frame(0x81, b"\xed\xa0\x80"), 1007),
    "a close of one byte": (frame(0x88, b"\x03"), 1002),
    "a close without a code": (frame(0x88, b"\x03\xed"), 1002),
    "a close from the future": (frame(0x88, b"\x13\x88"), 1002),
    "a reason that is no text": (frame(0x88, b"\x03\xe8\xff"), 1007),
    "too large": (b"\x82\xfe\x27\x10", 1009),
    "too large together": (frame(0x02, b"x" * 9_000) + frame(0x80, b"x" * 1_000), 1009),
    "huge": (b"\x82\xff" + b"\xff" * 8, 1009),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("step", [1, 1_000_000])
def test_what_is_against_the_protocol_ends_it_with_a_code(name, step):
    """What came before is heard; what is too large is not waited for."""
    sent, code = BROKEN[name]
    incoming = Incoming(FREE, 10_000)
    sent = frame(0x81, b"before") + sent

    with pytest.raises(Broken) as caught:
        found = []
        for begin in range(0, len(sent), step):
            incoming.feed(sent[begin : begin + step])
            while (each := incoming.next()) is not None:
                found.append(each)

    assert caught.value.code == code
    assert found == [(TEXT, b"before")]


@pytest.mark.parametrize(
    ("sent", "passes"),
    [(frame(0x89), 10), (frame(0x8A, b"x"), 10), (frame(0x00), 1_000 // 70)],
    ids=["pings", "pongs", "empty fragments"],
)
def test_so_much_passes_and_then_no_more(sent, passes):
    """Control frames have their own measure, and an empty frame costs bytes."""
    pace = Pace(0.0, 0.0, 1_000.0, 1_000_000.0, 1_000.0, 10_000.0)
    incoming = Incoming(pace, 10_000)
    incoming.feed(frame(0x01, b"") if sent == frame(0x00) else b"")
    heard = 0

    with pytest.raises(Flooded):
        for _ in range(passes + 5):
            incoming.feed(sent)
            all_of(incoming)
            heard += 1

    assert passes - 2 <= heard <= passes
    assert incoming.rest() == sent


def test_what_is_given_up_begins_where_a_frame_does():
    """So that the answer to a close frame is found behind it."""
    incoming = Incoming(FREE, 10_000)
    half = frame(0x82, b"x" * 500)[:300]
    incoming.feed(frame(0x81, b"one") + half)

    assert all_of(incoming) == [(TEXT, b"one")]
    assert incoming.rest() == half
    assert len(incoming) == 0


def test_bytes_that_are_not_taken_are_counted():
    """Who carries something out knows how much waits."""
    incoming = Incoming(FREE, 10_000)
    sent = frame(0x81, b"a") + frame(0x81, b"b") + frame(0x81, b"c")
    incoming.feed(sent)

    assert incoming.next() == (TEXT, b"a")
    assert len(incoming) == 2 * len(sent) // 3
    incoming.feed(frame(0x81, b"d"))
    assert [data for _, data in all_of(incoming)] == [b"b", b"c", b"d"]


def test_a_mask_is_taken_off_whatever_it_is():
    """Compared with the byte by byte of the specification."""
    generator = random.Random(7)
    for size in (0, 1, 2, 3, 4, 5, 125, 126, 127, 1_000, 65_535, 65_536):
        payload, mask = generator.randbytes(size), generator.randbytes(4)
        incoming = Incoming(FREE, 100_000)
        incoming.feed(frame(0x82, payload, mask))
        assert incoming.next() == (BINARY, payload)
