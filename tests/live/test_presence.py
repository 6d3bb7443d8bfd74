"""Who hears a channel, as its clients see it."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.contrib.live import attendance
from redis_pubsub.exceptions import BrokerUnavailable

with_database = pytest.mark.django_db(transaction=True)


@with_database
async def test_presence_lists_who_hears_a_channel(live, user, other_user, until):
    """W-13, C-8: each connection with its user; who leaves or is gone is listed no more."""
    ada, again = await live.connect(user), await live.connect(user)
    nobody, asking = await live.connect(), await live.connect(other_user)
    for client in (ada, again, nobody):
        await client.subscribe("room:1")
        # Its next command is carried out once it is there.
        await client.result("presence_stats", channel="room:1")
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
        await client.result("presence_stats", channel="tabs:1")

    present = (await clients[-1].result("presence", channel="tabs:1"))["presence"]

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
