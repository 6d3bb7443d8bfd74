"""From where: positions, and what was missed meanwhile."""

from __future__ import annotations

import pytest

from redis_pubsub.hub import admission

from .client import datas

with_database = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def filled(live):
    """A room with messages 1 to 15, of which 10 are kept; gives its epoch."""
    for n in range(1, 16):
        position = await live.publish("room:1", n)
    return position.epoch


async def test_a_plain_subscribe_says_where_the_channel_stands(live, filled):
    """§5: the top as offset, nothing of the past; then what comes."""
    client = await live.connect()

    assert await client.subscribe("room:1") == {
        "recoverable": True,
        "positioned": True,
        "epoch": filled,
        "offset": 15,
    }
    await live.publish("room:1", 16)
    assert await client.push("pub", "room:1") == {"data": 16, "offset": 16}


async def test_a_channel_without_history_begins_one(live):
    """§8: an empty epoch would match anything later."""
    client = await live.connect()

    result = await client.subscribe("room:2")

    assert result["epoch"] and "offset" not in result
    position = await live.publish("room:2", 1)
    assert position.epoch == result["epoch"] and position.offset == 1


RECOVERED = [(14, [15]), (12, [13, 14, 15]), (5, [*range(6, 16)]), (15, [])]


@pytest.mark.parametrize(("offset", "missed"), RECOVERED)
@pytest.mark.parametrize("knows_epoch", [True, False])
@pytest.mark.parametrize("flag", [0, 3])
async def test_what_was_missed_comes_with_the_reply(
    live, filled, offset, missed, knows_epoch, flag
):
    """§8: oldest first; `offset` is the client's own; an empty epoch is any."""
    client = await live.connect()
    epoch = {"epoch": filled} if knows_epoch else {}

    result = await client.subscribe(
        "room:1", recover=True, offset=offset, flag=flag, **epoch
    )

    assert result["was_recovering"] and result["recovered"]
    assert result["recoverable"] and result["positioned"]
    assert result["offset"] == offset and result["epoch"] == filled
    publications = result.get("publications", [])
    assert [(each["offset"], each["data"]) for each in publications] == [
        (n, n) for n in missed
    ]
    await live.publish("room:1", 16)
    assert await client.push("pub", "room:1") == {"data": 16, "offset": 16}
    assert await client.silent() == []


LOST = {
    "too old": {"offset": 4},
    "from the beginning": {},
    "ahead of the top": {"offset": 16},
    "far ahead": {"offset": 2**63 - 1},
    "another epoch": {"offset": 14, "epoch": "_"},
    "another epoch, at the top": {"offset": 15, "epoch": "other"},
}


@pytest.mark.parametrize("position", LOST.values(), ids=LOST)
async def test_what_cannot_be_recovered_is_said(live, filled, position):
    """§8: no error and no publications: `offset` is the top, and the app reloads. With
    bit 2 of `flag` error 112 instead, and the client is not subscribed."""
    client = await live.connect()
    wish = {"recover": True, "epoch": filled, **position}

    assert await client.error("subscribe", channel="room:1", flag=2, **wish) == 112
    await live.publish("room:1", 16)
    assert await client.silent() == []
    if position.get("offset") == 16:
        wish["offset"] = 17

    result = await client.subscribe("room:1", **wish)
    assert result["was_recovering"] is True and "recovered" not in result
    assert "publications" not in result
    assert result["offset"] == 16 and result["epoch"] == filled
    await live.publish("room:1", 17)
    assert await client.push("pub", "room:1") == {"data": 17, "offset": 17}


async def test_from_the_beginning_of_an_empty_channel_is_recovered(live):
    """Absent offset = 0: top == o, so nothing was missed."""
    client = await live.connect()

    result = await client.subscribe("room:3", recover=True, flag=2)

    assert result["recovered"] and "publications" not in result


async def test_more_than_may_be_recovered_is_not_recovered(serve_live):
    """§8: a read that was cut by a limit proves nothing."""
    live = await serve_live(limits={"recovery_messages": 3})
    for n in range(1, 6):
        position = await live.publish("room:1", n)
    client, other = await live.connect(), await live.connect()
    epoch = position.epoch

    result = await client.subscribe("room:1", recover=True, epoch=epoch, offset=1)
    assert "recovered" not in result
    result = await other.subscribe("room:1", recover=True, epoch=epoch, offset=2)
    assert datas(result["publications"]) == [3, 4, 5]


@with_database
async def test_positions_are_wishes_where_the_rule_does_not_force_them(serve_live):
    """§5: grant what is asked for and there is; without history the result is empty, and
    `was_recovering` is echoed."""
    rule = {"subscribe": "anyone", "history_size": 5}
    rule |= {"force_recovery": False, "positioned": False}
    live = await serve_live(channels={"plain:*": rule})
    client = await live.connect()

    assert await client.subscribe("plain:1") == {}
    assert set(await client.subscribe("plain:2", positioned=True)) == {
        "positioned",
        "epoch",
    }
    assert set(await client.subscribe("plain:3", recoverable=True)) == {
        "positioned",
        "recoverable",
        "epoch",
    }
    assert await client.subscribe("lobby:1") == {}
    assert await client.subscribe("lobby:2", recover=True, offset=3, epoch="e") == {
        "was_recovering": True
    }
    await live.publish("lobby:2", 1)
    assert await client.push("pub", "lobby:2") == {"data": 1}


@with_database
async def test_a_channel_of_a_row_has_positions_by_itself(live, user, chat):
    """It carries models: plain values join its history once somebody has subscribed."""
    ada = await live.connect(user)

    result = await ada.subscribe("chat")

    assert result["recoverable"]
    await live.publish("chat", "plain")
    assert (await ada.push("pub", "chat"))["offset"] == 1


async def test_what_is_of_no_use_later_has_no_offset(live):
    """`history=False`: sent, not kept, and no hole in the positions."""
    client = await live.connect()
    epoch = (await client.subscribe("room:1"))["epoch"]

    await live.publish("room:1", 1)
    await live.publish("room:1", "typing", history=False)
    await live.publish("room:1", 2)

    heard = [await client.push("pub", "room:1") for _ in range(3)]
    assert heard == [
        {"data": 1, "offset": 1},
        {"data": "typing"},
        {"data": 2, "offset": 2},
    ]
    other = await live.connect()
    result = await other.subscribe("room:1", recover=True, epoch=epoch)
    assert datas(result["publications"]) == [1, 2]


async def test_a_sender_can_be_left_out(live):
    """`exclude=` the id of a connection; its position has no hole."""
    sender, other = await live.connect(), await live.connect()
    for client in (sender, other):
        await client.subscribe("room:1")

    await live.publish("room:1", 1, exclude=sender.result_of_connect["client"])
    await live.publish("room:1", 2)

    assert (await sender.push("pub", "room:1")) == {"data": 2, "offset": 2}
    assert (await other.push("pub", "room:1")) == {"data": 1, "offset": 1}
    assert (await other.push("pub", "room:1")) == {"data": 2, "offset": 2}


async def test_what_was_kept_from_a_sender_is_not_recovered_either(live):
    """On the same connection; if nothing else was missed, the top is its new position."""
    sender = await live.connect()
    mine = sender.result_of_connect["client"]
    epoch = (await sender.subscribe("room:1"))["epoch"]
    await sender.result("unsubscribe", channel="room:1")
    await live.publish("room:1", 1, exclude=mine)

    only_mine = await sender.subscribe("room:1", recover=True, epoch=epoch)
    await sender.result("unsubscribe", channel="room:1")
    await live.publish("room:1", 2)
    others = await sender.subscribe("room:1", recover=True, epoch=epoch)

    assert only_mine["recovered"] and only_mine["offset"] == 1
    assert "publications" not in only_mine
    assert others["recovered"] and datas(others["publications"]) == [2]


async def test_what_was_read_before_it_arrived_is_not_repeated(live, until, monkeypatch):
    """The stream is ahead of what Redis has delivered here: recovered, and then passed
    over; who was there before gets it as it comes."""
    monkeypatch.setattr(admission, "LOG_KEPT_S", 0)
    early, late = await live.connect(), await live.connect()
    epoch = (await early.subscribe("room:1"))["epoch"]
    await until(lambda: live.engine.hub._feeds["room:1"].log is None)
    live.engine.hub.broker.pause()
    for n in range(1, 6):
        await live.publish("room:1", n)

    result = await late.subscribe("room:1", recover=True, epoch=epoch)
    assert datas(result["publications"]) == [1, 2, 3, 4, 5]
    live.engine.hub.broker.resume()
    await live.publish("room:1", 6)

    assert [(await early.push("pub"))["data"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert await late.push("pub") == {"data": 6, "offset": 6}
