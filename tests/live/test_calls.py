"""What a connected client asks for besides hearing channels."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest
from asgiref.sync import sync_to_async
from centrifuge.protocol import client_pb2
from django.core.exceptions import PermissionDenied, ValidationError

from redis_pubsub.contrib.live import RPCError, attendance, on_message, rpc
from redis_pubsub.exceptions import BrokerUnavailable, InvalidPayload

from .client import datas

with_database = pytest.mark.django_db(transaction=True)


# -- publish -----------------------------------------------------------------------------


@with_database
async def test_publishing_is_denied_unless_allowed(live, user, chat):
    """103: a subscription does not grant it; 102 and 107 for names that are none."""
    ada, nobody = await live.connect(user), await live.connect()
    await ada.subscribe("chat")

    assert await ada.error("publish", channel="chat", data=1) == 103
    assert await nobody.error("publish", channel="members:1", data=1) == 103
    assert await nobody.error("publish", channel="\x00control", data=1) == 102
    assert await nobody.error("publish", channel="room:" + "a" * 251, data=1) == 107
    assert await ada.result("publish", channel="members:1", data=1) == {}


@with_database
@pytest.mark.parametrize("data", [{"a": [1, None]}, None, 0, "", "two\nlines\u2028", []])
async def test_everybody_hears_who_published(live, user, data):
    """The publisher too; `info` says who; any JSON is data."""
    ada, bob = await live.connect(user), await live.connect()
    for client in (ada, bob):
        await client.subscribe("room:1")

    assert await ada.result("publish", channel="room:1", data=data) == {}

    info = {"user": str(user.pk), "client": ada.result_of_connect["client"]}
    for client in (ada, bob):
        pub = await client.push("pub", "room:1")
        assert pub == {"data": data, "info": info, "offset": 1}


async def test_a_publication_without_data_or_too_large_is_refused(serve_live):
    """107 and 106, and nobody hears of it."""
    live = await serve_live(limits={"message_bytes": 100})
    client = await live.connect()
    await client.subscribe("room:1")

    assert await client.error("publish", channel="room:1") == 107
    assert await client.error("publish", channel="room:1", data="x" * 99) == 106
    assert await client.result("publish", channel="room:1", data="x" * 98) == {}
    assert (await client.silent())[0]["push"]["pub"]["offset"] == 1


async def test_white_space_in_data_does_not_break_frames(live):
    """§2: a raw newline inside a payload breaks the framing: it is compacted away."""
    client = await live.connect()
    await client.subscribe("room:1")

    await client.ws.send_str(
        '{"id":50,"publish":{"channel":"room:1","data":{"a" :\t[1 , 2]\r}}}'
    )

    assert await client.push("pub", "room:1") == {
        "data": {"a": [1, 2]},
        "offset": 1,
        "info": {"user": "", "client": client.result_of_connect["client"]},
    }


# -- history -----------------------------------------------------------------------------


@pytest.fixture
async def filled(live):
    """A room with messages 1 to 12, of which 10 are kept; gives its epoch."""
    for n in range(1, 13):
        position = await live.publish("room:1", n)
    return position.epoch


READS = [
    ({}, []),
    ({"limit": 0}, []),
    ({"limit": -1}, [*range(3, 13)]),
    ({"limit": -7}, [*range(3, 13)]),
    ({"limit": 3}, [3, 4, 5]),
    ({"limit": 1_000}, [*range(3, 13)]),
    ({"limit": 3, "reverse": True}, [12, 11, 10]),
    ({"limit": 2, "since": {"offset": 6}}, [7, 8]),
    ({"limit": -1, "since": {"offset": 1}}, [*range(3, 13)]),
    ({"limit": -1, "since": {"offset": 12}}, []),
    ({"limit": -1, "since": {"offset": 2**63 - 1}}, []),
    ({"limit": 2, "since": {"offset": 6}, "reverse": True}, [5, 4]),
    ({"limit": 2, "since": {}}, [3, 4]),
]


@pytest.mark.parametrize(("read", "expected"), READS)
async def test_history_gives_what_is_kept_and_where_the_channel_stands(
    live, filled, read, expected
):
    """§3: `limit` 0 or absent is the position only, below 0 is all; `since` is exclusive;
    a too old one is no error; `offset` is the top whatever was read."""
    client = await live.connect()

    result = await client.result("history", channel="room:1", **read)

    assert datas(result["publications"]) == expected
    assert [each["offset"] for each in result["publications"]] == expected
    assert (result["epoch"], result["offset"]) == (filled, 12)


@with_database
async def test_what_history_refuses(live, user, filled, chat):
    """§3: wrong epoch 112, reverse from nowhere 107, no history 108, not allowed 103."""
    ada, client = await live.connect(user), await live.connect()

    since = {"offset": 5, "epoch": "_"}
    assert await client.error("history", channel="room:1", since=since) == 112
    since = {"offset": 0}
    assert await client.error("history", channel="room:1", since=since, reverse=True) == 107
    assert await client.error("history", channel="lobby:1", limit=1) == 108
    assert await client.error("history", channel="secret", limit=1) == 103
    assert await client.error("history", channel="chat", limit=1) == 103
    assert await client.error("history", channel="\x00control", limit=1) == 102
    # Whoever may hear a channel may ask what was said.
    await ada.subscribe("chat")
    assert (await ada.result("history", channel="chat"))["offset"] == 0
    since = {"offset": 3, "epoch": filled}
    assert await client.result("history", channel="room:1", since=since, limit=1)


async def test_the_history_of_an_unused_channel_is_empty(live):
    """Its epoch is the one that the first message will have."""
    client = await live.connect()

    result = await client.result("history", channel="room:7", limit=-1)

    assert result["publications"] == [] and result["offset"] == 0
    assert (await live.publish("room:7", 1)).epoch == result["epoch"]


# -- presence ----------------------------------------------------------------------------


@with_database
async def test_presence_lists_who_hears_a_channel(live, user, other_user, until):
    """Each connection with its user; who leaves or is gone is listed no more."""
    ada, again = await live.connect(user), await live.connect(user)
    nobody, asking = await live.connect(), await live.connect(other_user)
    for client in (ada, again, nobody):
        await client.subscribe("room:1")
    ids = [each.result_of_connect["client"] for each in (ada, again, nobody)]

    present = (await asking.result("presence", channel="room:1"))["presence"]
    assert sorted(present) == sorted(ids)
    assert present[ids[0]] == {"user": str(user.pk), "client": ids[0]}
    assert present[ids[2]] == {"user": "", "client": ids[2]}
    stats = await asking.result("presence_stats", channel="room:1")
    assert stats == {"num_clients": 3, "num_users": 2}

    await ada.result("unsubscribe", channel="room:1")
    await nobody.ws.close()
    while (await asking.result("presence_stats", channel="room:1"))["num_clients"] != 1:
        await asyncio.sleep(0.005)
    assert list((await asking.result("presence", channel="room:1"))["presence"]) == [ids[1]]


@with_database
async def test_presence_of_an_empty_channel_is_empty_and_some_have_none(live, user, chat):
    """108 without the option, 103 for who may not hear it."""
    client = await live.connect()

    assert await client.result("presence", channel="room:5") == {"presence": {}}
    assert await client.result("presence_stats", channel="room:5") == {
        "num_clients": 0,
        "num_users": 0,
    }
    for kind in ("presence", "presence_stats"):
        assert await client.error(kind, channel="lobby:1") == 108
        assert await client.error(kind, channel="secret") == 103
        assert await client.error(kind, channel="\x00control") == 102


@with_database
async def test_presence_by_user_counts_tabs_once(serve_live, user):
    """Option ``presence_by``: one entry a user, each anonymous client for himself."""
    rule = {"subscribe": "anyone", "presence": True, "presence_by": "user"}
    live = await serve_live(channels={"tabs:*": rule})
    clients = [await live.connect(user) for _ in range(3)]
    clients += [await live.connect() for _ in range(2)]
    for client in clients:
        await client.subscribe("tabs:1")

    present = (await clients[0].result("presence", channel="tabs:1"))["presence"]

    users = sorted(info["user"] for info in present.values())
    assert users == ["", "", str(user.pk)]


@with_database
async def test_joins_and_leaves_are_announced(live, user):
    """§6: one's own join follows the subscribe reply; one's own leave is not told; who
    closes the socket leaves."""
    ada, bob = await live.connect(user), await live.connect()
    await bob.subscribe("joins:1")
    me = {"user": "", "client": bob.result_of_connect["client"]}
    assert (await bob.push("join", "joins:1"))["info"] == me

    reply = await ada.call("subscribe", channel="joins:1")
    assert "subscribe" in reply and ada._heard == []
    her = {"user": str(user.pk), "client": ada.result_of_connect["client"]}
    for client in (ada, bob):
        assert (await client.push("join", "joins:1"))["info"] == her

    await ada.result("unsubscribe", channel="joins:1")
    assert (await bob.push("leave", "joins:1"))["info"] == her
    assert await ada.silent() == []

    await ada.subscribe("joins:1")
    assert (await bob.push("join", "joins:1"))["info"] == her
    await ada.ws.close()
    assert (await bob.push("leave", "joins:1"))["info"] == her


@with_database
async def test_what_a_token_says_others_are_told(live, user):
    """`info` of the connection's token and of the subscription's, in joins, presence and
    publications."""
    from redis_pubsub.auth.tokens import connection_token, subscription_token

    ada = await live.open()
    token = connection_token(user, info={"name": "Ada"})
    me = (await ada.result("connect", token=token))["client"]
    token = subscription_token(user, "joins:1", info=["owner"])
    await ada.subscribe("joins:1", token=token)

    info = {"user": str(user.pk), "client": me, "conn_info": {"name": "Ada"}}
    joined = {**info, "chan_info": ["owner"]}
    assert (await ada.push("join", "joins:1"))["info"] == joined
    present = await ada.result("presence", channel="joins:1")
    assert present == {"presence": {me: joined}}
    await ada.subscribe("room:1")
    await ada.result("publish", channel="room:1", data=1)
    assert (await ada.push("pub", "room:1"))["info"] == info


# -- redis is down -----------------------------------------------------------------------

CALLS = [
    ("publish", {"channel": "room:1", "data": 1}),
    ("history", {"channel": "room:1", "limit": 1}),
    ("presence", {"channel": "room:1"}),
    ("presence_stats", {"channel": "room:1"}),
    ("subscribe", {"channel": "room:1"}),
]


@pytest.mark.parametrize(("kind", "fields"), CALLS)
async def test_a_redis_that_is_down_is_a_temporary_error(live, monkeypatch, kind, fields):
    """100, `temporary`; the connection stays, and the same call works later."""
    client = await live.connect()

    async def down(*args, **options):
        raise BrokerUnavailable("Redis is down")

    for name in ("_run", "_pipeline"):
        monkeypatch.setattr(live.engine.hub.broker, name, down)
    for name in ("members", "counts"):
        monkeypatch.setattr(live.engine.hub.broker.presence, name, down)
    reply = await client.call(kind, **fields)
    assert reply["error"]["code"] == 100 and reply["error"]["temporary"] is True

    monkeypatch.undo()
    await client.result(kind, **fields)


# -- procedures --------------------------------------------------------------------------


@dataclass
class Move:
    x: int
    y: int = 0


def procedures(gate, taken):
    @rpc("add")
    async def add(user, data):
        return sum(data)

    @rpc()
    def whoami(user, data):
        return {"user": user and user.username, "thread": threading.current_thread().name}

    @rpc("move")
    def move(user, data: Move):
        return [data.x, data.y]

    @rpc("raise")
    async def raising(user, data):
        raise {
            "own": RPCError(1_000, "no luck", temporary=True),
            "denied": PermissionDenied("no"),
            "invalid": ValidationError("must be blue"),
            "payload": InvalidPayload("of another call"),
            "bug": RuntimeError("the procedure is broken"),
        }[data]

    @rpc("unencodable")
    async def unencodable(user, data):
        return object() if data else "\ud800"

    @rpc("wait")
    async def wait(user, data):
        await gate.wait()
        return data

    @on_message
    async def take(user, data):
        if data == "raise":
            raise RuntimeError("taking is broken")
        name = await sync_to_async(lambda: threading.current_thread().name)()
        taken.append((data, name))

    return [add, whoami, move, raising, unencodable, wait, take]


@pytest.fixture
def gate():
    return asyncio.Event()


@pytest.fixture
def taken():
    return []


@pytest.fixture
async def calling(serve_live, gate, taken):
    return await serve_live(*procedures(gate, taken), limits={"live_calls": 2})


@with_database
async def test_procedures_are_called_with_user_and_data(calling, user):
    """Coroutines on the loop, plain functions in a database thread, data as annotated."""
    ada, nobody = await calling.connect(user), await calling.connect()

    assert await ada.result("rpc", method="add", data=[1, 2]) == {"data": 3}
    answer = (await ada.result("rpc", method="whoami"))["data"]
    assert answer["user"] == "ada" and "redis-pubsub-db" in answer["thread"]
    assert (await nobody.result("rpc", method="whoami"))["data"]["user"] is None
    assert await ada.result("rpc", method="move", data={"x": 1}) == {"data": [1, 0]}


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("unknown", None, 104),
        ("", None, 104),
        ("take", None, 104),
        ("move", {"y": 1}, 107),
        ("move", {"x": "1"}, 107),
        ("raise", "own", 1_000),
        ("raise", "denied", 103),
        ("raise", "invalid", 107),
    ],
)
async def test_a_call_that_fails_on_purpose_has_its_code(
    calling, caplog, method, data, code
):
    """Nothing of it is in the log."""
    client = await calling.connect()

    reply = await client.call("rpc", method=method, data=data)

    assert reply["error"]["code"] == code
    assert reply["error"].get("temporary", False) == (code == 1_000)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("raise", "bug"),
        ("raise", "payload"),
        ("raise", "x"),
        ("unencodable", 0),
        ("unencodable", 1),
    ],
)
async def test_a_broken_procedure_is_our_fault(calling, caplog, method, data):
    """100 and a traceback; the client learns nothing of the inside, and stays."""
    client = await calling.connect()

    reply = await client.call("rpc", method=method, data=data)

    assert reply["error"] == {
        "code": 100,
        "message": "internal server error",
        "temporary": True,
    }
    assert "Traceback" in caplog.text
    assert await client.result("rpc", method="add", data=[1]) == {"data": 1}


async def test_without_procedures_nothing_can_be_called(live):
    """108 rather than 104: the site has no rpc at all."""
    client = await live.connect()

    assert await client.error("rpc", method="add") == 108


async def test_calls_run_beside_each_other_up_to_a_number(calling, gate):
    """A slow one holds up nobody; more than ``live_calls`` at once are 111, temporary."""
    client = await calling.connect()
    slow = await client.say(*({"rpc": {"method": "wait", "data": n}} for n in (1, 2)))

    reply = await client.call("rpc", method="add", data=[1])
    assert reply["error"]["code"] == 111 and reply["error"]["temporary"] is True
    await client.subscribe("room:1")
    gate.set()
    for n, command_id in enumerate(slow, 1):
        assert (await client.reply_to(command_id))["rpc"] == {"data": n}
    assert await client.result("rpc", method="add", data=[1]) == {"data": 1}


async def test_a_call_ends_with_its_connection(calling, gate, caplog, until):
    """Nothing of it stays behind, and nothing is logged."""
    client = await calling.connect()
    (connection,) = calling.connections
    await client.say({"rpc": {"method": "wait"}})
    await until(lambda: connection._calls)

    await client.ws.close()

    await until(lambda: not connection._calls)
    assert len(calling.server) == 0 and "Traceback" not in caplog.text


async def test_messages_are_taken_in_order_and_get_no_answer(calling, taken, caplog):
    """`send`: also with an id; one that fails is logged, and the next is taken. Async
    database calls run in the pool."""
    client = await calling.connect()

    await client.ws.send_str(
        "\n".join(
            [
                '{"send":{"data":1}}',
                '{"send":{"data":"raise"}}',
                '{"id":9,"send":{"data":{"n":2}}}',
                '{"send":{}}',
            ]
        )
    )

    assert await client.silent() == []
    assert [data for data, _ in taken] == [1, {"n": 2}, None]
    assert all("redis-pubsub-db" in name for _, name in taken)
    assert "taking is broken" in caplog.text


async def test_messages_that_nobody_takes_end_the_connection(live):
    """§3: 3508."""
    client = await live.connect()

    await client.ws.send_str('{"send":{"data":1}}')

    assert await client.ended() == (3508, "not available")


@with_database
async def test_who_could_not_be_made_present_comes_back_later(serve_live, monkeypatch):
    """Presence is not kept: the client hears the channel meanwhile, and is asked to come
    back, but not at once: it comes without a delay of its own."""
    monkeypatch.setattr(attendance, "COME_BACK_S", (0.2, 0.3))
    rule = {"subscribe": "anyone", "presence": True, "history_size": 0}
    live = await serve_live(channels={"quiet": rule})
    client = await live.connect()
    enter = live.engine.presence.enter

    async def down(*args, **options):
        raise BrokerUnavailable("Redis is down")

    monkeypatch.setattr(live.engine.presence, "enter", down)
    await client.subscribe("quiet")
    await live.publish("quiet", 1)
    assert (await client.hear())["push"]["pub"]["data"] == 1
    assert (await client.hear())["push"]["unsubscribe"]["code"] == 2500
    monkeypatch.setattr(live.engine.presence, "enter", enter)
    await client.subscribe("quiet")
    assert len((await client.result("presence", channel="quiet"))["presence"]) == 1


async def test_bytes_that_are_no_json_are_refused_in_the_binary_form(live):
    """Everybody else may speak JSON: 107, and nobody gets them."""
    listening = await live.connect()
    await listening.subscribe("room:1")
    client = await live.open(protocols=("centrifuge-protobuf",))

    async def call(kind, **fields):
        command = client_pb2.Command(id=7)
        getattr(command, kind).SetInParent()
        for name, value in fields.items():
            setattr(getattr(command, kind), name, value)
        data = command.SerializeToString()
        await client.ws.send_bytes(b"%c%s" % (len(data), data))
        answer = await client.ws.receive_bytes(timeout=5)
        return client_pb2.Reply.FromString(answer[1:])

    await call("connect")
    for data in (b"", b"\x00\x01", b"{", b'"\xff"', b"1 2"):
        assert (await call("publish", channel="room:1", data=data)).error.code == 107
    assert (await call("publish", channel="room:1", data=b"[ 1 ]")).HasField("publish")
    assert (await listening.push("pub", "room:1"))["data"] == [1]
