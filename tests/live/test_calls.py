"""What a connected client asks for: to publish, and what was said."""

from __future__ import annotations

import pytest
from centrifuge.protocol import client_pb2

from redis_pubsub.broker import Read
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.publishing.publisher import publisher

from .client import datas

with_database = pytest.mark.django_db(transaction=True)


# -- publish -----------------------------------------------------------------------------


@with_database
async def test_publishing_is_denied_unless_allowed(live, user, chat):
    """W-6: 103: a subscription does not grant it; 102 and 107 for names that are none."""
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
    """W-6: the publisher too; `info` says who; any JSON is data."""
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


async def test_what_a_call_has_committed_comes_before_the_next_command(live, monkeypatch):
    """Commits are answered by Redis later; whatever a client asks next is asked behind
    that."""
    order = []
    broker = live.engine.hub.broker

    def noted(name, call):
        async def note(*args):
            # The process reads where channels stand by itself, too.
            if name != "read" or args[0][0].limit == 7:
                order.append(name)
            return await call(*args)

        return note

    monkeypatch.setattr(publisher, "asettle", noted("settled", publisher.asettle))
    monkeypatch.setattr(broker, "publish", noted("published", broker.publish))
    monkeypatch.setattr(broker, "read", noted("read", broker.read))
    client = await live.connect()
    await client.subscribe("room:1")
    order.clear()

    await client.result("publish", channel="room:1", data=1)
    await client.result("history", channel="room:1", limit=7)

    assert order == ["settled", "published", "settled", "read"]


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
    """And stays so: asking for names leaves nothing in Redis."""
    client = await live.connect()

    result = await client.result("history", channel="room:7", limit=-1)

    assert result == {"publications": [], "epoch": "", "offset": 0}
    (history,) = await live.engine.hub.broker.read([Read("room:7", begins=False)])
    assert history.position.epoch == ""


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
