"""The first exchange: its order, its cost, and what is heard without asking."""

from __future__ import annotations

import pytest

from redis_pubsub import asend_to
from redis_pubsub.addresses import personal_channel
from redis_pubsub.auth.tokens import connection_token, sign
from redis_pubsub.contrib.live import connecting

from .client import datas, subscribe
from .conftest import KEY

pytestmark = pytest.mark.django_db(transaction=True)


async def test_who_says_nothing_is_not_kept(serve_live):
    """§11: 3502 without a connect command in time, also after a refused one."""
    live = await serve_live(limits={"live_connect_s": 0.2})
    silent, refused = await live.open(), await live.open()
    assert await refused.error("connect", token=sign(b'{"sub":"1","exp":1}', KEY)) == 109

    assert await silent.ended() == (3502, "stale")
    assert await refused.ended() == (3502, "stale")


async def test_one_connects_once(live):
    """§3: a second connect is 3501."""
    client = await live.connect()

    await client.say({"connect": {}})

    assert await client.ended() == (3501, "bad request")


@pytest.mark.parametrize(
    "frame", ["hello", '{"id":1,"subscribe":{"channel":"a"}}', "", "{}"]
)
async def test_a_bad_first_frame_is_3501(live, frame):
    """Malformed, a command before connect, nothing, a pong."""
    client = await live.open()

    await client.ws.send_str(frame)

    assert await client.ended() == (3501, "bad request")


async def test_each_command_gets_one_reply_the_connects_before_all(live, user):
    """§3: replies of neighbouring subscribes may interleave."""
    client = await live.open()

    ids = await client.say(
        {"connect": {"token": connection_token(user)}},
        subscribe("room:1"),
        {"ping": {}},
        subscribe("room:2"),
        subscribe("room:1"),
        {"publish": {"channel": "room:9", "data": 1}},
        {"unsubscribe": {"channel": "room:1"}},
    )

    replies = [await client.hear() for _ in ids]
    assert replies[0]["id"] == ids[0]
    kinds = {each["id"]: next(key for key in each if key != "id") for each in replies}
    expected = ["connect", "subscribe", "ping", "subscribe", "error", "publish"]
    assert kinds == dict(zip(ids, [*expected, "unsubscribe"], strict=True))
    assert await client.silent() == []


async def test_many_subscriptions_cost_one_query(live, user, chat, queries):
    """Connect and a hundred subscribes in one frame: the user, and one query for rows."""
    token = connection_token(user)
    # Once in a while somebody asks whether the site has groups at all.
    await live.connect(user)
    client = await live.open()
    queries.clear()
    wishes = [subscribe("chat"), *(subscribe(f"private:{n}") for n in range(99))]

    ids = await client.say({"connect": {"token": token}}, *wishes)
    replies = [await client.hear() for _ in ids]

    assert sum("subscribe" in reply for reply in replies) == 1
    assert sum(reply.get("error", {}).get("code") == 103 for reply in replies) == 99
    assert len([sql for sql in queries if "redis_pubsub" in sql]) == 1
    assert len(queries) == 2


async def test_everybody_hears_his_own_channel(live, user, other_user):
    """Server-side, with its position; nobody else does."""
    mine = personal_channel(str(user.pk))
    client, other = await live.connect(user), await live.connect(other_user)
    subscription = client.result_of_connect["subs"][mine]
    assert subscription["recoverable"] and subscription["positioned"]
    assert subscription["epoch"] and "offset" not in subscription
    assert await client.error("subscribe", channel=mine) == 105
    assert await other.error("subscribe", channel=mine) == 103

    await live.publish(mine, {"n": 1})

    assert await client.push("pub", mine) == {"data": {"n": 1}, "offset": 1}
    assert await other.silent() == []


async def test_what_the_own_channel_brought_meanwhile_comes_with_the_reply(live, user):
    """§4: recovery from the positions in `subs`, which are no wishes to subscribe."""
    mine = personal_channel(str(user.pk))
    before = (await live.connect(user)).result_of_connect["subs"][mine]
    for n in range(3):
        await live.publish(mine, n)
    position = {"recover": True, "epoch": before["epoch"], "offset": 1}

    client = await live.connect(user, subs={mine: position, "room:1": position})

    assert list(client.result_of_connect["subs"]) == [mine, "broadcast"]
    subscription = client.result_of_connect["subs"][mine]
    assert subscription["was_recovering"] and subscription["recovered"]
    assert subscription["offset"] == 1 and datas(subscription["publications"]) == [1, 2]

    lost = {"recover": True, "epoch": "_", "offset": 1, "flag": 2}
    client = await live.connect(user, subs={mine: lost})
    subscription = client.result_of_connect["subs"][mine]
    assert subscription["was_recovering"] and "recovered" not in subscription
    assert subscription["offset"] == 3 and "publications" not in subscription


def refuse_all(**question):
    return False


async def test_a_strict_hook_does_not_shut_everybody_out(serve_live, user):
    """What the server subscribes to it has granted; a hook that knows rooms only is not
    asked about it."""
    live = await serve_live(authorize_method=f"{__name__}.refuse_all")

    client = await live.connect(user)

    own = [personal_channel(str(user.pk)), "broadcast"]
    assert list(client.result_of_connect["subs"]) == own
    assert await client.error("subscribe", channel="room:1") == 103


async def test_a_deactivation_while_connecting_is_not_missed(
    live, user, monkeypatch, until
):
    """`refresh` and `disconnect` between the look at the user and the reply."""
    from redis_pubsub.publishing.control import arefresh

    identify = connecting.identify

    async def slow(connection, request):
        identity = await identify(connection, request)
        user.is_active = False
        await user.asave()
        changes = live.server.changes
        await arefresh(user)
        await until(lambda: live.server.changes > changes)
        return identity

    monkeypatch.setattr(connecting, "identify", slow)
    client = await live.open()

    await client.say({"connect": {"token": connection_token(user)}})

    assert await client.ended() == (3507, "permission denied")


async def test_a_message_for_one_connection_comes_without_a_channel(live):
    """C-6: `asend_to` with the client id is a ``message`` push; others get nothing."""
    ada, bob = await live.connect(), await live.connect()

    await asend_to(ada.result_of_connect["client"], {"just": "you"})

    assert await ada.push("message") == {"data": {"just": "you"}}
    assert await bob.silent() == []
