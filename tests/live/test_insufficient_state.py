"""When nobody knows any more what a client has missed."""

from __future__ import annotations

import asyncio
import random

import pytest

from redis_pubsub.addresses import personal_channel
from redis_pubsub.publishing import publish

from .client import datas

with_database = pytest.mark.django_db(transaction=True)


@with_database
async def test_a_lost_redis_connection_is_not_the_clients_matter(
    live, user, redis_client, until
):
    """What was said meanwhile is read once and delivered; nobody subscribes anew, and who
    counts on no positions is told of nothing."""
    ada, nobody = await live.connect(user), await live.connect()
    await ada.subscribe("room:1")
    await nobody.subscribe("lobby:1")
    await live.publish("room:1", 1)
    assert (await ada.push("pub", "room:1"))["offset"] == 1
    lost = live.engine.metrics["redis_connections_lost"]

    redis_client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await asyncio.to_thread(publish, "room:1", 2)
    await asyncio.to_thread(publish, personal_channel(str(user.pk)), "mine")
    await until(lambda: live.engine.metrics["redis_connections_lost"] > lost)

    heard = [(await ada.hear())["push"] for _ in range(2)]
    assert {push["channel"]: push["pub"]["data"] for push in heard} == {
        "room:1": 2,
        personal_channel(str(user.pk)): "mine",
    }
    await live.publish("room:1", 3)
    assert (await ada.push("pub", "room:1"))["offset"] == 3
    assert await nobody.silent() == []


@with_database
async def test_a_lost_position_of_the_own_channel_ends_the_connection(
    live, user, redis_client, prefix
):
    """§8: 3010: what the server subscribed to the client cannot subscribe anew."""
    ada = await live.connect(user)
    mine = personal_channel(str(user.pk))
    redis_client.publish(f"{prefix}:{{{mine}}}:live", '1:9:other:{"id":"x"}\n0')

    assert await ada.ended() == (3010, "insufficient state")
    await live.publish(mine, 1)
    again = await live.connect(user, subs={mine: {"recover": True}})
    assert datas(again.result_of_connect["subs"][mine]["publications"]) == [1]


def forge(redis_client, prefix, position):
    """Put a message on the Redis channel as if it stood at a position."""
    redis_client.publish(f"{prefix}:{{room:1}}:live", f'1:{position}:{{"id":"x"}}\n0')


async def test_a_hole_or_another_epoch_is_insufficient_state(
    live, redis_client, prefix, until
):
    """§8: higher than position + 1, or another epoch: stop, then push 2500. A repeated or
    lower offset is passed over in silence."""
    client = await live.connect()
    epoch = (await client.subscribe("room:1"))["epoch"]
    for n in (1, 2, 3):
        await live.publish("room:1", n)
        assert (await client.push("pub", "room:1"))["offset"] == n

    for n in (3, 1):
        forge(redis_client, prefix, f"{n}:{epoch}")
    await until(lambda: live.engine.metrics["duplicate_messages"] == 2)
    assert await client.silent() == []

    forge(redis_client, prefix, f"5:{epoch}")
    assert (await client.hear())["push"]["unsubscribe"]["code"] == 2500

    # The stream has three: whoever says five is ahead of the truth.
    result = await client.subscribe("room:1", recover=True, epoch=epoch, offset=3)
    assert result["recovered"]
    forge(redis_client, prefix, "1:other")
    assert (await client.hear())["push"]["unsubscribe"]["code"] == 2500
    assert await client.silent() == []


async def test_a_history_that_was_lost_begins_another_epoch(live, redis_client, prefix):
    """Redis came back empty: subscribers learn of it with the first message, and the old
    position is not recovered."""
    client = await live.connect()
    await live.publish("room:1", 1)
    epoch = (await client.subscribe("room:1"))["epoch"]
    redis_client.delete(f"{prefix}:{{room:1}}:meta", f"{prefix}:{{room:1}}:stream")

    await live.publish("room:1", "new")

    assert (await client.hear())["push"]["unsubscribe"]["code"] == 2500
    result = await client.subscribe("room:1", recover=True, epoch=epoch, offset=1)
    assert "recovered" not in result and result["epoch"] != epoch
    assert result["offset"] == 1


async def test_whoever_leaves_before_he_is_told_is_not_told(serve_live, monkeypatch):
    """The push is spread over time; it never meets a new subscription."""
    live = await serve_live()
    client = await live.connect()
    await client.subscribe("room:1")
    (connection,) = live.connections
    monkeypatch.setattr("random.uniform", lambda low, high: 0.05)

    connection.position_lost("room:1")
    await client.result("unsubscribe", channel="room:1")
    await client.subscribe("room:1")
    await asyncio.sleep(0.1)

    assert await client.silent() == []
    await live.publish("room:1", 1)
    assert (await client.push("pub", "room:1"))["offset"] == 1


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_missed_or_repeated_while_clients_come_and_go(serve_live, seed):
    """Twenty clients resume at their own positions while 300 messages are published: each
    ends with every message once, in order."""
    chance = random.Random(seed)
    rule = {"subscribe": "anyone", "history_size": 1_000}
    live = await serve_live(channels={"room:*": rule})
    total = 300

    async def follow():
        client = await live.connect()
        result = await client.result("subscribe", channel="room:1", recover=True)
        seen = datas(result.get("publications", []))
        while len(seen) < total:
            if chance.random() < 0.05:
                await client.result("unsubscribe", channel="room:1")
                seen += [each["push"]["pub"]["data"] for each in client._heard]
                client._heard.clear()
                position = {"epoch": result["epoch"], "offset": len(seen)}
                again = await client.result(
                    "subscribe", channel="room:1", recover=True, **position
                )
                assert again["recovered"]
                seen += datas(again.get("publications", []))
            else:
                seen.append((await client.push("pub", "room:1"))["data"])
        assert await client.silent() == []
        return seen

    async def say():
        for n in range(1, total + 1):
            await live.publish("room:1", n)
            if chance.random() < 0.1:
                await asyncio.sleep(0.002)

    *all_seen, _ = await asyncio.gather(*(follow() for _ in range(20)), say())
    assert all(seen == list(range(1, total + 1)) for seen in all_seen)
