"""What a socket does with its transport; the bytes on a real one are in
tests/websockets/test_conformance.py."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.web import upgraded
from redis_pubsub.web.farewell import FAREWELL_BYTES
from redis_pubsub.web.incoming import TEXT
from redis_pubsub.web.pace import Pace
from redis_pubsub.web.upgraded import UpgradedSocket

FREE = Pace(0.0, 0.0, 0.0, 1.0, 0.0, 1.0)
CLOSE = bytes([0x88, 0x82]) + bytes(4) + b"\x03\xe8"


def text(data):
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data


class Transport(asyncio.Transport):
    """Remembers what was asked of it."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.written = b""
        self.is_over = False

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return 0

    def can_write_eof(self):
        return True

    def is_closing(self):
        return self.is_over

    def write_eof(self):
        self.asked.append("write_eof")

    def pause_reading(self):
        self.asked.append("pause")

    def resume_reading(self):
        self.asked.append("resume")

    def close(self):
        self.asked.append("close")
        self.is_over = True

    def abort(self):
        self.asked.append("abort")
        self.is_over = True


class Socket(UpgradedSocket):
    """Is busy with each message until it is told to go on."""

    def __init__(self, transport):
        super().__init__(transport, FREE, 100_000, 1_000)
        self.said = []

    def heard(self, opcode, data):
        assert opcode == TEXT
        self.said.append(data)
        self.is_busy = True

    def broke_protocol(self, error):
        self.said.append(error.code)
        self.goodbye(error.code, error.reason)
        self.close_writing()

    def flooded(self):
        self.said.append("flood")

    def too_slow(self):
        self.said.append("slow")

    def left(self):
        self.said.append("left")


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
async def socket(transport):
    made = Socket(transport)
    made.begin(b"")
    return made


async def test_the_next_message_waits_for_the_end_of_the_one_before(socket):
    """In order, one at a time, whatever has arrived."""
    socket.data_received(text(b"a") + text(b"b"))
    socket.data_received(text(b"c"))
    assert socket.said == [b"a"]

    socket.go_on()
    assert socket.said == [b"a", b"b"]
    socket.go_on()
    socket.go_on()

    assert socket.said == [b"a", b"b", b"c"] and not socket.is_busy


async def test_little_is_read_ahead_of_what_is_carried_out(socket, transport):
    """The rest stays in the network; nothing of it is lost."""
    sent = [text(b"%05d" % number) for number in range(20_000)]
    socket.data_received(sent[0])
    arrived = 1
    while "pause" not in transport.asked:
        socket.data_received(b"".join(sent[arrived : arrived + 100]))
        arrived += 100
    assert arrived * len(sent[0]) < 100_000

    while socket.is_busy:
        socket.go_on()

    assert len(socket.said) == arrived
    assert transport.asked == ["pause", "resume"]


async def test_a_client_that_says_goodbye_is_answered_and_left(socket, transport):
    """With its own code; what was written before goes first."""
    socket.data_received(CLOSE)

    assert transport.written == b"\x88\x02\x03\xe8"
    assert transport.asked == ["close"]
    assert not socket.outlet.is_open


async def test_the_answer_to_our_goodbye_closes(socket, transport):
    """Whatever stands before it is skipped, and nobody hears it."""
    socket.goodbye(3500, "over")
    assert transport.written == b"\x88\x06\x0d\xacover" and transport.asked == []

    socket.data_received(text(b"late") + CLOSE[:3])
    socket.data_received(CLOSE[3:])

    assert transport.asked == ["close"] and socket.said == []
    socket.goodbye(3501, "again")
    assert transport.written == b"\x88\x06\x0d\xacover"


async def test_half_a_message_is_skipped_to_the_answer(socket, transport):
    """Told to go in the middle of what it says, a client is still heard saying goodbye."""
    long = bytes([0x82, 0xFE]) + (500).to_bytes(2, "big") + bytes(4) + b"x" * 500
    socket.data_received(long[:200])
    socket.goodbye(3500, "over")

    socket.data_received(long[200:] + CLOSE)

    assert transport.asked == ["close"]


async def test_who_goes_on_although_told_to_go_is_dropped(socket, transport):
    """Reading costs, too."""
    socket.goodbye(3500, "over")

    for _ in range(FAREWELL_BYTES // 60_000 + 1):
        socket.data_received(text(b"x" * 10) * 3_750)

    assert transport.asked[-1] == "abort"


async def test_a_goodbye_is_waited_for_only_so_long(socket, transport, until, monkeypatch):
    """A client that is gone without a word keeps nothing open."""
    monkeypatch.setattr(upgraded, "_CLOSE_DEADLINE_S", 0.01)
    socket.goodbye(3500, "over")

    await until(lambda: transport.asked == ["abort"])


async def test_a_goodbye_ends_a_pause(socket, transport):
    """Else the client's answer would never be read."""
    socket.data_received(text(b"first"))
    socket.data_received(text(b"x" * 100) * 1_000)
    assert transport.asked == ["pause"]

    socket.goodbye(3500, "over")
    socket.data_received(CLOSE)

    assert transport.asked == ["pause", "resume", "close"]
    socket.go_on()
    assert socket.said == [b"first"]


async def test_broken_frames_end_both_ways(socket, transport):
    """The close frame, then the end; what came before was heard."""
    socket.data_received(text(b"good"))
    socket.go_on()
    socket.data_received(b"\x81\x01x")

    assert socket.said == [b"good", 1002]
    assert transport.written.startswith(b"\x88")
    assert transport.asked == ["write_eof"]


async def test_a_lost_connection_takes_nothing_more(socket, transport):
    """Neither from its client nor for it."""
    socket.connection_lost(None)
    socket.outlet.write(b"late")

    assert socket.said == ["left"] and transport.written == b""
