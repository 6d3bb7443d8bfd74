"""Whatever a client says: an answer or a close, each with a code, and never a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from types import SimpleNamespace

import pytest
from centrifuge.protocol import client_pb2
from google.protobuf.internal.decoder import _DecodeVarint32
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_pubsub.auth import authorize, personal, standing
from redis_pubsub.auth.tokens import sign
from redis_pubsub.conf import get_config
from redis_pubsub.contrib.live import connecting, on_message, rpc
from redis_pubsub.contrib.live.connection import Connection
from redis_pubsub.contrib.live.dialogue import hear
from redis_pubsub.contrib.live.protocol.forms import WEBSOCKET, websocket_protobuf
from redis_pubsub.contrib.live.protocol.protobuf import _varint
from redis_pubsub.contrib.live.server import LiveServer
from redis_pubsub.engine import Engine
from redis_pubsub.readers import live as live_subscriptions
from redis_pubsub.web.handshake import Credentials
from redis_pubsub.web.outlet import Outlet

from .conftest import CHANNELS, KEY
from .raw import Raw
from .speech import FIELDS, conversations, json_commands, protobuf_commands, requests

EXAMPLES = 200
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ERRORS = {100, 102, 103, 104, 105, 106, 107, 108, 109, 111, 112, 1_000}
ENDS = {3005, 3500, 3501}
USER = SimpleNamespace(pk=7, is_active=True, is_authenticated=True)


class Transport:
    """A client that takes whatever it is sent."""

    def __init__(self):
        self.written = bytearray()

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return False


class Line:
    """A socket without a network."""

    session = ""

    def __init__(self, form):
        self.form = form
        self.transport = Transport()
        self.outlet = Outlet(self.transport, 1_000_000, lambda: None)
        self.ended = None

    def end(self, code):
        self.ended = code
        self.outlet.shut()

    def abort(self):
        raise AssertionError("not aborted but ended")

    def payloads(self):
        data, begin = bytes(self.transport.written), 0
        while begin < len(data):
            size = data[begin + 1]
            width = {126: 2, 127: 8}.get(size, 0)
            if width:
                size = int.from_bytes(data[begin + 2 : begin + 2 + width], "big")
            begin += 2 + width + size
            yield data[begin - size : begin]


async def nobody_knows(token):
    return None


@pytest.fixture
async def server(settings, monkeypatch, caplog):
    """A live server with a broker in memory, and users but no database."""
    settings.REDIS_PUBSUB = {
        "url": f"memory://fuzz-{id(monkeypatch)}",
        "channels": CHANNELS,
        "tokenauth_method": f"{__name__}.nobody_knows",
        "live": {"anonymous": True, "token_key": KEY},
        "limits": {"live_channels": 4, "live_calls": 3, "live_expiry_grace_s": 0.0},
    }
    monkeypatch.setattr(connecting, "_active_user", lambda pk: USER if pk == "7" else None)
    monkeypatch.setattr(authorize, "_rows", lambda user, channels: {})
    monkeypatch.setattr(personal, "_has_groups", lambda: False)
    for module in (connecting, standing):
        monkeypatch.setattr(module, "active_users", lambda pks: {"7": USER})
    monkeypatch.setattr(live_subscriptions, "_active", lambda users: [])

    @rpc("echo")
    async def echo(user, data):
        await asyncio.sleep(0)
        return data

    @on_message
    async def take(user, data):
        pass

    engine = Engine(get_config())
    server = engine.part(LiveServer)
    server.procedures = {"echo": echo, "": take}
    await engine.start()
    caplog.set_level(logging.WARNING)
    yield server
    await engine.close()


# -- what they hear ----------------------------------------------------------------------


async def converse(server, form, connect, frames):
    """Say each frame to a connection (to a new one where it has ended), and check all
    that was answered."""
    connection = None
    for frame in frames:
        if connection is None:
            connection = Connection(server, Line(form), Credentials("", ""))
            await hear(connection, connect)
        await hear(connection, frame)
        if connection.session.ending is not None:
            check(connection)
            connection = None
    if connection is not None:
        while connection._calls:
            await asyncio.sleep(0)
        check(connection)
        connection.closed()
    assert len(server) == 0
    assert server.engine.hub.channels.keys() <= {"\x00control"}


def check(connection):
    line = connection.line
    ending = connection.session.ending
    replies = []
    for payload in line.payloads():
        replies += decoded(line.form, payload)
    for reply in replies:
        push, error = reply.get("push"), reply.get("error")
        if push is not None:
            assert push["channel"] and len(push) == 2
        else:
            assert reply["id"] and len(reply) <= 2
        if error is not None:
            assert error["code"] in ERRORS and error["message"]
    if ending is not None:
        assert line.ended is ending and ending.code in ENDS
        connection.closed()


def decoded(form, payload):
    if form is WEBSOCKET:
        return [json.loads(line) for line in payload.split(b"\n")]
    replies, begin = [], 0
    while begin < len(payload):
        size, begin = _DecodeVarint32(payload, begin)
        reply = client_pb2.Reply.FromString(payload[begin : begin + size])
        begin += size
        known = {field.name: value for field, value in reply.ListFields()}
        if "error" in known:
            error = known["error"]
            known["error"] = {"code": error.code, "message": error.message}
        if "push" in known:
            known["push"] = {field.name: v for field, v in known["push"].ListFields()}
        replies.append(known)
    return replies


def no_traceback(caplog):
    assert [each.getMessage() for each in caplog.records if each.exc_info] == []
    caplog.clear()


CONNECT = sign(b'{"sub":"7"}', KEY)


@fuzz
@given(frames=conversations(json_commands(), b"\n"))
async def test_any_json_is_answered_or_ended(server, caplog, frames):
    """5,000 frames: well-formed, almost, and not at all."""
    connect = json.dumps({"id": 1, "connect": {"token": CONNECT}}).encode()

    await converse(server, WEBSOCKET, connect, frames)

    no_traceback(caplog)


@fuzz
@given(frames=conversations(protobuf_commands(), b""))
async def test_any_protobuf_is_answered_or_ended(server, caplog, frames):
    """5,000 frames in the binary form."""
    command = client_pb2.Command(id=1)
    command.connect.token = CONNECT
    data = command.SerializeToString()

    await converse(server, websocket_protobuf(), _varint(len(data)) + data, frames)

    no_traceback(caplog)


@fuzz
@given(fields=st.fixed_dictionaries({}, optional=FIELDS["connect"]), frame=json_commands())
async def test_any_connect_is_answered_or_ended(server, caplog, fields, frame):
    """Whatever it claims, and with another command behind it."""
    connect = json.dumps({"id": 1, "connect": fields}).encode()
    connection = Connection(server, Line(WEBSOCKET), Credentials("", ""))

    await hear(connection, connect + b"\n" + frame)

    while connection._calls:
        await asyncio.sleep(0)
    check(connection)
    connection.closed()
    assert len(server) == 0
    no_traceback(caplog)


@fuzz
@given(commands=st.lists(requests(), min_size=1, max_size=8))
async def test_each_command_gets_exactly_one_reply(server, caplog, commands):
    """Where the conversation goes on; by id, whatever the ids are."""
    connection = Connection(server, Line(WEBSOCKET), Credentials("", ""))
    await hear(connection, b'{"id":1,"connect":{}}')
    commands = [each for each in commands if each[0] != "send"]
    said = Counter(command_id for _, _, command_id in commands)
    lines = [json.dumps({"id": n, kind: fields}) for kind, fields, n in commands]

    await hear(connection, "\n".join(lines) or "{}")

    while connection._calls:
        await asyncio.sleep(0)
    check(connection)
    replies = [
        each for data in connection.line.payloads() for each in decoded(WEBSOCKET, data)
    ]
    heard = Counter(reply["id"] for reply in replies if "id" in reply)
    if connection.session.state.value == "connected":
        assert heard == said + Counter([1])
    else:
        assert heard <= said + Counter([1])
    connection.closed()
    no_traceback(caplog)


# -- too much ----------------------------------------------------------------------------


async def test_ten_thousand_commands_in_one_go_are_answered_in_order(serve_live):
    """While they are carried out nothing more is read: what waits is the network's."""
    live = await serve_live(limits={"live_commands_burst": 20_000})
    client = await live.connect()
    ids = list(range(100, 10_100))
    for begin in range(0, len(ids), 1_000):
        some = ids[begin : begin + 1_000]
        lines = [json.dumps({"id": command_id, "ping": {}}) for command_id in some]
        await client.ws.send_str("\n".join(lines))

    assert [(await client.hear())["id"] for _ in ids] == ids


async def test_a_frame_full_of_commands_does_not_keep_the_loop(server):
    """Others are served in between."""
    connection = Connection(server, Line(WEBSOCKET), Credentials("", ""))
    await hear(connection, b'{"id":1,"connect":{}}')
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await hear(connection, "\n".join(['{"id":1,"ping":{}}'] * 1_000))
    counting.cancel()

    assert turns > 10
    connection.closed()


async def test_who_asks_and_does_not_listen_is_ended(serve_live, until):
    """Replies count as what a client has to take: 3008, and the buffer is bounded."""
    live = await serve_live(limits={"send_buffer_bytes": 100_000})
    for _ in range(10):
        await live.publish("room:1", "x" * 20_000)
    raw = await Raw.open(live)
    await raw.upgrade()
    raw.send_frame(b'{"id":1,"connect":{}}')
    await raw.frame()
    raw.reader._transport.pause_reading()

    ask = b'{"id":2,"history":{"channel":"room:1","limit":-1}}'
    for _ in range(500):
        raw.send_frame(ask)
    await until(lambda: live.engine.metrics["slow_disconnects"] == 1)

    assert len(live.server) == 0
    raw.writer.transport.abort()
