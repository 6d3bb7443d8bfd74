"""What may be said when, without a socket: `redis_pubsub.contrib.live.protocol.session`."""

from __future__ import annotations

import json

import pytest

from redis_pubsub.codes import Code, Disconnects, Errors, Unsubscribes
from redis_pubsub.contrib.live.protocol.commands import SubscribeRequest
from redis_pubsub.contrib.live.protocol.forms import SSE, STREAM_UNCHUNKED, WEBSOCKET
from redis_pubsub.contrib.live.protocol.results import (
    ConnectResult,
    Empty,
    SubscribeResult,
)
from redis_pubsub.contrib.live.protocol.session import Session, State

CONNECT = '{"id":1,"connect":{}}'
RESULT = ConnectResult(client="c", version="v")


def lines_of(session):
    """What it has to say, without the frame around it."""
    data = session.take()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def new():
    # The form of HTTP/1.0 streams puts nothing around a reply but its line's end.
    return Session(STREAM_UNCHUNKED, channel_limit=3)


@pytest.fixture
def session(new):
    (command,) = new.receive(CONNECT)
    new.connected(command, RESULT)
    new.take()
    return new


def test_the_connect_command_comes_first(new):
    """§3: its reply repeats the id, whatever that is."""
    (command,) = new.receive('{"id":12,"connect":{"name":"js"}}')
    assert new.state is State.CONNECTING

    new.connected(command, RESULT)

    assert new.state is State.CONNECTED
    assert lines_of(new) == [{"id": 12, "connect": {"client": "c", "version": "v"}}]


def test_connect_and_subscribes_may_share_a_frame(new):
    """§2: as centrifuge-js sends them."""
    commands = new.receive(CONNECT + '\n{"id":2,"subscribe":{"channel":"a"}}\n')

    assert [command.kind for command in commands] == ["connect", "subscribe"]
    assert new.ending is None


BAD_AT_FIRST = {
    "a command before connect": '{"id":1,"subscribe":{"channel":"a"}}',
    "a pong before connect": "{}",
    "a message before connect": '{"send":{"data":1}}',
    "nothing": "",
    "only a line's end": "\n",
    "no JSON": "hello",
    "half a command": '{"id":1,"connect":{',
    "an array": "[]",
    "a number": "7",
    "null": "null",
    "id 0": '{"id":0,"connect":{}}',
    "no id": '{"connect":{}}',
    "a negative id": '{"id":-1,"connect":{}}',
    "an id over 32 bits": '{"id":4294967296,"connect":{}}',
    "an id that is text": '{"id":"1","connect":{}}',
    "no request": '{"id":1}',
    "an unknown request": '{"id":1,"explode":{}}',
    "a request of the wrong type": '{"id":1,"connect":[]}',
    "a field of the wrong type": '{"id":1,"connect":{"token":7}}',
    "two connects": CONNECT + "\n" + CONNECT,
    "a bad second line": CONNECT + "\nhello",
    "nested beyond reason": '{"id":1,"connect":{"data":' + "[" * 100_000,
}


@pytest.mark.parametrize("frame", BAD_AT_FIRST.values(), ids=BAD_AT_FIRST)
def test_a_bad_first_frame_ends_it(new, frame):
    """§3: close 3501, and nothing of the frame is carried out."""
    assert new.receive(frame) == []
    assert new.ending is Disconnects.BAD_REQUEST
    assert new.state is State.OVER
    assert new.receive(CONNECT) == []


BAD_LATER = {
    "a second connect": CONNECT,
    "id 0": '{"id":0,"subscribe":{"channel":"a"}}',
    "an unknown request": '{"id":2,"explode":{}}',
    "no request": '{"id":2}',
    "an empty channel": '{"id":2,"subscribe":{"channel":""}}',
    "no channel": '{"id":2,"publish":{"data":1}}',
    "unsubscribe of nothing": '{"id":2,"unsubscribe":{}}',
    "history of nothing": '{"id":2,"history":{}}',
    "presence of nothing": '{"id":2,"presence":{}}',
    "stats of nothing": '{"id":2,"presence_stats":{}}',
    "a new token for nothing": '{"id":2,"sub_refresh":{"token":"x"}}',
    "no UTF-8": b'{"id":2,"rpc":{"method":"\xff"}}',
}


@pytest.mark.parametrize("bad", BAD_LATER.values(), ids=BAD_LATER)
def test_of_a_frame_with_a_bad_command_nothing_is_carried_out(session, bad):
    """§3: 3501; the good command before it is not carried out either."""
    bad = bad if isinstance(bad, bytes) else bad.encode()

    assert session.receive(b'{"id":5,"publish":{"channel":"a","data":1}}\n' + bad) == []
    assert session.ending is Disconnects.BAD_REQUEST
    assert lines_of(session) == []


def test_only_messages_and_pongs_have_no_id(session):
    """§3: `send`, and the pong."""
    commands = session.receive('{"send":{"data":{"n":1}}}\n{}')

    assert [command.kind for command in commands] == ["send"]


def test_a_pong_is_taken_and_an_unasked_one_is_too(session):
    """§7: be lenient, a client's quirk answers replies with pongs."""
    session.awaits_pong = True
    assert session.receive("{}") == []
    assert not session.awaits_pong

    assert session.receive('{}\n{"id":0}\n{}') == []
    assert session.ending is None


def test_explicit_zeros_are_as_good_as_nothing(session):
    """§2: centrifuge-python sends them."""
    (command,) = session.receive(
        '{"id":2,"subscribe":{"channel":"a","token":"","recover":false,"epoch":"",'
        '"offset":0,"data":null,"positioned":false,"recoverable":false,'
        '"join_leave":false,"flag":0,"type":0,"tf":null,"delta":""}}'
    )

    assert session.begin(command.subscribe) is None
    (command,) = session.receive(
        '{"id":3,"history":{"channel":"a","limit":0,"since":null,"reverse":false}}'
    )
    assert command.history.since is None


def test_unknown_fields_are_ignored(session):
    """§2, on every level."""
    (command,) = session.receive(
        '{"id":2,"new":[1],"subscribe":{"channel":"a","newer":{"x":1},"data":{"y":2}}}'
    )

    assert command.kind == "subscribe" and command.subscribe.channel == "a"


def test_ids_may_repeat_and_come_in_any_order(session):
    """§3: they are the client's; each command gets its reply."""
    lines = [json.dumps({"id": n, "ping": {}}) for n in (9, 3, 3)]
    commands = session.receive("\n".join(lines))
    for command in commands:
        session.answer(command, Empty())

    assert lines_of(session) == [{"id": n, "ping": {}} for n in (9, 3, 3)]


REFUSED = [
    ({"channel": "a" * 256}, Errors.BAD_REQUEST),
    ({"channel": "a\nb"}, Errors.BAD_REQUEST),
    ({"channel": "\x00control"}, Errors.UNKNOWN_CHANNEL),
    ({"channel": "a", "type": 1}, Errors.NOT_AVAILABLE),
    ({"channel": "a", "tf": {"op": "eq"}}, Errors.BAD_REQUEST),
]


@pytest.mark.parametrize(("wish", "code"), REFUSED)
def test_a_wish_that_cannot_be_is_an_error(session, wish, code):
    """§5: what is not built is refused, never ignored; the connection stays."""
    frame = json.dumps({"id": 2, "subscribe": wish})
    (command,) = session.receive(frame)

    assert session.begin(command.subscribe) is code
    assert session.ending is None and session.channels == {}


def test_a_channel_is_subscribed_to_once(session):
    """105, also while the first is under way; and again once it has been left."""
    wish = SubscribeRequest(channel="a")

    assert session.begin(wish) is None
    assert session.begin(wish) is Errors.ALREADY_SUBSCRIBED
    session.drop("a")
    assert session.begin(wish) is None


def test_no_more_channels_than_allowed(session):
    """106, server-side ones and those under way counted."""
    for name in "abc":
        assert session.begin(SubscribeRequest(channel=name)) is None

    assert session.begin(SubscribeRequest(channel="d")) is Errors.LIMIT_EXCEEDED
    assert session.begin(SubscribeRequest(channel="a")) is Errors.ALREADY_SUBSCRIBED


def test_the_server_says_that_a_subscription_ended_if_the_client_knew_of_it(session):
    """§12: a push for what was confirmed, nothing for what was not."""
    (command,) = session.receive('{"id":2,"subscribe":{"channel":"a"}}')
    session.begin(command.subscribe)
    session.begin(SubscribeRequest(channel="b"))
    session.subscribed(command, "a", SubscribeResult())
    session.take()

    assert session.drop("a", Unsubscribes.EXPIRED) is not None
    assert session.drop("b") is not None
    assert session.drop("c") is None

    push = {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}
    assert lines_of(session) == [{"push": push}]


def test_a_refused_connect_may_be_tried_again(new):
    """§4: the client closes; but if it stays it may ask again."""
    (command,) = new.receive(CONNECT)

    new.refused(command, Errors.TOKEN_EXPIRED)

    assert lines_of(new) == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]
    assert len(new.receive(CONNECT)) == 1


def test_the_first_reason_counts(session):
    """A close has one code."""
    session.end(Disconnects.SLOW)
    session.end(Disconnects.SHUTDOWN)

    assert session.ending is Disconnects.SLOW


def test_what_is_taken_is_gone(session):
    """Nothing is said twice, and nothing at all is no frame."""
    (command,) = session.receive('{"id":2,"ping":{}}')
    session.answer(command, Empty())

    assert session.take() and session.take() == b""


def test_replies_of_one_turn_travel_together():
    """§1: one WebSocket frame with a line for each, one event with as many `data:`."""
    for form, expected in (
        (WEBSOCKET, b'\x81\x25{"id":2,"ping":{}}\n{"id":3,"ping":{}}'),
        (SSE, b'33\r\ndata: {"id":2,"ping":{}}\ndata: {"id":3,"ping":{}}\n\n\r\n'),
    ):
        session = Session(form, 3)
        session.connected(session.receive(CONNECT)[0], RESULT)
        session.take()
        for command in session.receive('{"id":2,"ping":{}}\n{"id":3,"ping":{}}'):
            session.answer(command, Empty())
        said = session.take()
        assert said == expected


def test_every_code_has_a_reason_that_clients_can_read():
    """§11: never empty, never JSON, at most 123 bytes; errors from 100 on."""
    for kind in (Errors, Disconnects, Unsubscribes):
        for code in (each for each in vars(kind).values() if isinstance(each, Code)):
            assert 0 < len(code.reason.encode()) <= 123 and code.code >= 100
            with pytest.raises(ValueError):
                json.loads(code.reason)
