from __future__ import annotations

import pytest

from redis_pubsub.options import Limits
from redis_pubsub.web.farewell import FAREWELL_BYTES
from redis_pubsub.web.guard import Guard
from redis_pubsub.web.pace import pace_of_handlers

PING = bytes([0x89, 0x80]) + bytes(4)
TEXT = bytes([0x81, 0x85]) + bytes(4) + b"hello"
CLOSE = bytes([0x88, 0x82]) + bytes(4) + b"\x03\xe8"
LIMITS = Limits(
    messages_per_s=0.001,
    messages_burst=10,
    bytes_per_s=0.001,
    bytes_burst=100_000,
    control_frames_per_s=0.001,
    control_frames_burst=10,
)


class Parser:
    """Keeps what it is fed."""

    def __init__(self):
        self.fed = b""

    def feed_data(self, data):
        self.fed += data
        return False, b""

    def feed_eof(self):
        self.fed += b"<eof>"


class Told:
    """What a guard tells its socket."""

    def __init__(self):
        self.heard = []

    def flooded(self):
        self.heard.append("flood")

    def broke_protocol(self, error):
        self.heard.append(error.code)

    def abort(self):
        self.heard.append("abort")


@pytest.fixture
def parser():
    return Parser()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def guard(parser, told):
    return Guard(parser, told, pace_of_handlers(LIMITS, 10))


def long_frame(size):
    return bytes([0x82, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + b"x" * size


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 70_100])
def test_what_passes_is_what_came_however_it_was_cut(guard, parser, told, step):
    """Frames of every width of head, pings between them."""
    sent = TEXT + PING + long_frame(70_000) + bytes([0x82, 0xFE, 1, 0]) + bytes(260) + CLOSE

    for begin in range(0, len(sent), step):
        guard.feed_data(sent[begin : begin + step])
    guard.feed_eof()

    assert parser.fed == sent + b"<eof>"
    assert told.heard == []


@pytest.mark.parametrize("step", [1, 4, 100])
def test_a_frame_without_a_mask_never_reaches_the_parser(guard, parser, told, step):
    """Wherever the network cut it; what came before is taken."""
    sent = TEXT + b"\x81\x05hello"
    answers = [
        guard.feed_data(sent[begin : begin + step]) for begin in range(0, len(sent), step)
    ]

    assert parser.fed == TEXT
    assert told.heard[0] == 1002
    assert (True, b"") in answers


@pytest.mark.parametrize(
    ("frame", "passes"),
    [(PING, 10), (TEXT, 10), (bytes([0x00, 0x80]) + bytes(4), 100_000 // 70)],
    ids=["pings", "messages", "empty continuations"],
)
def test_so_many_pass_and_then_no_more(guard, parser, told, frame, passes):
    """Each kind has its own measure; an empty frame costs bytes too."""
    for _ in range(passes + 50):
        guard.feed_data(frame)

    assert parser.fed == frame * passes
    assert told.heard == ["flood"]


def test_a_flood_in_one_piece_is_not_parsed_at_all(guard, parser, told):
    """The heads are counted first."""
    guard.feed_data(PING * 1_000)

    assert parser.fed == b""
    assert told.heard == ["flood"]


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_who_was_told_to_go_is_heard_saying_goodbye(guard, parser, told, step):
    """The answer to our close frame still ends the connection well."""
    guard.feed_data(TEXT[:8])
    guard.feed_data(TEXT[8:] + PING * 20)
    rest = PING + TEXT + long_frame(300) + CLOSE

    for begin in range(0, len(rest), step):
        guard.feed_data(rest[begin : begin + step])

    assert parser.fed == TEXT + CLOSE
    assert told.heard == ["flood"]


def test_who_goes_on_although_told_to_go_is_dropped(guard, parser, told):
    """Reading costs, too."""
    guard.feed_data(PING * 20)

    for _ in range(FAREWELL_BYTES // 60_000 + 1):
        guard.feed_data(PING * 10_000)

    assert told.heard[-1] == "abort"
    assert parser.fed == b""


def test_two_of_the_largest_messages_may_always_come_at_once(parser, told):
    """A small budget does not make a handler's own limit unreachable."""
    guard = Guard(parser, told, pace_of_handlers(LIMITS, 1_000_000))

    guard.feed_data(long_frame(990_000))
    guard.feed_data(long_frame(990_000))

    assert told.heard == []
