"""Until when? What takes a channel away again, also while it is being granted."""

from __future__ import annotations

import asyncio
import threading

import pytest

from redis_pubsub.auth.authorize import Authorizer
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live import connecting
from redis_pubsub.models import Channel
from redis_pubsub.publishing.control import adisconnect, arefresh, aunsubscribe
from redis_pubsub.readers.live import LiveSubscriptions
from redis_pubsub.web import rechecks

from .client import subscribe

pytestmark = pytest.mark.django_db(transaction=True)


async def test_turning_the_row_off_ends_it_at_once(live, user, chat):
    """Push 2000; what was granted by other rules stays; nothing is fed any more."""
    ada = await live.connect(user)
    await ada.subscribe("chat")
    await ada.subscribe("room:1")

    await chat.aunsubscribe(user)

    assert await ada.push("unsubscribe", "chat") == {
        "code": 2000,
        "reason": "server unsubscribe",
    }
    await live.publish("chat", "late")
    await live.publish("room:1", "now")
    assert await ada.push("pub", "room:1") == {"data": "now", "offset": 1}
    assert await ada.silent() == []
    assert await ada.error("subscribe", channel="chat") == 103


async def test_a_row_turned_off_while_the_subscribe_is_under_way_is_seen(
    live, user, chat, monkeypatch, until
):
    """Between the look at the rows and the reply: it is looked at again."""
    grants = Authorizer.grants

    async def slow(authorizer, *args, **options):
        answer = await grants(authorizer, *args, **options)
        changes = live.server.changes
        await chat.aunsubscribe(user)
        await until(lambda: live.server.changes > changes)
        return answer

    ada = await live.connect(user)
    monkeypatch.setattr(Authorizer, "grants", slow)
    await ada.say(subscribe("chat"))

    assert (await ada.push("unsubscribe", "chat"))["code"] == 2000


async def test_a_refresh_while_the_subscribe_is_under_way_is_seen(
    serve_live, user, monkeypatch, until
):
    """The same for what the hook grants."""
    allowed = {"by-hook"}
    monkeypatch.setitem(globals(), "allowed", allowed)
    live = await serve_live(authorize_method=f"{__name__}.hook_of_a_set")
    ada = await live.connect(user)
    grants = Authorizer.grants

    async def slow(authorizer, *args, **options):
        answer = await grants(authorizer, *args, **options)
        monkeypatch.setattr(Authorizer, "grants", grants)
        allowed.clear()
        changes = live.server.changes
        await arefresh(user)
        await until(lambda: live.server.changes > changes)
        return answer

    monkeypatch.setattr(Authorizer, "grants", slow)
    await ada.say(subscribe("by-hook"))

    assert (await ada.push("unsubscribe", "by-hook"))["code"] == 2000


def hook_of_a_set(*, channel, **question):
    return channel in globals()["allowed"]


async def test_an_unsubscribe_while_the_subscribe_is_under_way_is_seen(
    live, user, monkeypatch, until
):
    """The client does not end up with what the server has just ended."""
    grants = Authorizer.grants

    async def slow(authorizer, *args, **options):
        answer = await grants(authorizer, *args, **options)
        changes = live.server.changes
        await aunsubscribe(user, "room:1")
        await until(lambda: live.server.changes > changes)
        return answer

    ada = await live.connect(user)
    monkeypatch.setattr(Authorizer, "grants", slow)

    assert await ada.error("subscribe", channel="room:1") == 103
    await live.publish("room:1", 1)
    assert await ada.silent() == []


async def test_others_rows_may_change_while_nobody_subscribes(
    live, user, other_user, chat, monkeypatch, until
):
    """A client that is nobody has no rows to look at; it must not get in the way of those
    who have."""
    ada, nobody = await live.connect(user), await live.connect()
    await ada.subscribe("chat")
    grants = Authorizer.grants

    async def slow(authorizer, *args, **options):
        monkeypatch.setattr(Authorizer, "grants", grants)
        changes = live.server.changes
        await arefresh(other_user)
        await until(lambda: live.server.changes > changes)
        return await grants(authorizer, *args, **options)

    monkeypatch.setattr(Authorizer, "grants", slow)
    await nobody.subscribe("room:1")

    await chat.aunsubscribe(user)
    assert (await ada.push("unsubscribe", "chat"))["code"] == 2000
    assert live.engine.metrics["refresh_errors"] == 0


async def test_the_server_can_unsubscribe_a_user_or_one_client(live, user):
    """`redis_pubsub.unsubscribe`: every connection of the user, or the one named."""
    first, second = await live.connect(user), await live.connect(user)
    for client in (first, second):
        await client.subscribe("room:1")

    await aunsubscribe(None, "room:1", client=first.result_of_connect["client"])
    assert (await first.push("unsubscribe", "room:1"))["code"] == 2000
    await live.publish("room:1", 1)
    assert (await second.push("pub", "room:1"))["data"] == 1
    assert await first.silent() == []

    await aunsubscribe(user, "room:1")
    assert (await second.push("unsubscribe", "room:1"))["code"] == 2000
    await first.subscribe("room:1")


async def test_the_server_can_disconnect_a_user_or_one_client(live, user, other_user):
    """`redis_pubsub.disconnect`: 3503 unless said otherwise; others stay."""
    from redis_pubsub.codes import Code, Disconnects

    first, second = await live.connect(user), await live.connect(user)
    third, bob = await live.connect(user), await live.connect(other_user)

    await adisconnect(client=first.result_of_connect["client"])
    assert await first.ended() == (3503, "force disconnect")
    await adisconnect(client=second.result_of_connect["client"], code=Code(4001, "é" * 100))
    assert await second.ended() == (4001, "é" * 61)
    await adisconnect(user, code=Disconnects.FORCE_RECONNECT)
    assert await third.ended() == (3011, "force reconnect")
    assert await bob.silent() == []


@pytest.mark.parametrize("reason", ["", '{"reconnect":true}', "42", "true", '"text"'])
async def test_a_reason_is_never_one_that_clients_misread(live, user, reason):
    """§11: not empty, not JSON, whatever was asked for."""
    from redis_pubsub.codes import Code

    ada = await live.connect(user)

    await adisconnect(user, code=Code(4500, reason))

    assert await ada.ended() == (4500, "force disconnect")


async def test_refresh_asks_the_hook_and_the_users_row_anew(
    serve_live, user, other_user, monkeypatch
):
    """For changes that no row of this package shows."""
    monkeypatch.setitem(globals(), "allowed", {"one", "two"})
    live = await serve_live(authorize_method=f"{__name__}.hook_of_a_set")
    ada = await live.connect(user)
    await ada.subscribe("one")
    await ada.subscribe("two")

    globals()["allowed"].discard("one")
    await arefresh(other_user)
    await arefresh(user)
    assert (await ada.push("unsubscribe", "one"))["code"] == 2000
    assert await ada.silent() == []

    user.is_active = False
    await user.asave()
    await arefresh(user)
    assert await ada.ended() == (3507, "permission denied")


async def test_after_the_reply_to_an_unsubscribe_nothing_comes(live):
    """Also of what was published in the same moment; and again after a new subscribe."""
    client = await live.connect()
    await client.subscribe("room:1")
    publishing = asyncio.gather(*(live.publish("room:1", n) for n in range(50)))

    await client.result("unsubscribe", channel="room:1")
    client._heard.clear()
    await publishing
    assert await client.silent() == []

    await client.subscribe("room:1")
    await live.publish("room:1", "again")
    assert (await client.hear())["push"]["pub"] == {"data": "again", "offset": 51}
    assert await client.result("unsubscribe", channel="never") == {}


async def test_a_refresh_while_a_new_token_is_looked_up_is_seen(
    live, user, monkeypatch, until
):
    """The row that came with the token is older than what was said meanwhile, and what the
    look at the old one finds is no longer of the connection."""
    ada = await live.connect(user)
    identity_of_token, judge = connecting.identity_of_token, rechecks.judge
    judged, go_on = threading.Event(), threading.Event()

    def late(standings):
        verdicts = judge(standings)
        judged.set()
        go_on.wait(5)
        return verdicts

    async def slow(connection, token):
        identity = await identity_of_token(connection, token)
        await type(user).objects.filter(pk=user.pk).aupdate(is_active=False)
        await arefresh(user)
        await until(judged.is_set)
        return identity

    monkeypatch.setattr(rechecks, "judge", late)
    monkeypatch.setattr(connecting, "identity_of_token", slow)
    await ada.result("refresh", token=connection_token(user))
    go_on.set()

    assert await ada.ended() == (3507, "permission denied")


async def test_a_look_that_is_older_than_a_grant_does_not_end_it(live, user, monkeypatch):
    """The client has asked, the rows were read, and then he was subscribed and let in."""
    channel = await Channel.objects.acreate(name="letters")
    client = await live.connect(user)
    known, authorizer = live.engine.part(LiveSubscriptions), live.server.authorizer
    active_of, grants = known.active_of, authorizer.grants
    asked, read = asyncio.Event(), asyncio.Event()
    may_grant, may_end = asyncio.Event(), asyncio.Event()

    async def slow_grants(*args, **options):
        asked.set()
        await may_grant.wait()
        return await grants(*args, **options)

    async def slow_rows(users):
        found = await active_of(users)
        read.set()
        await may_end.wait()
        return found

    monkeypatch.setattr(authorizer, "grants", slow_grants)
    monkeypatch.setattr(known, "active_of", slow_rows)
    asking = asyncio.create_task(client.subscribe("letters"))
    await asked.wait()
    live.server.look_again(str(user.pk))
    await read.wait()
    await channel.asubscribe(user)
    may_grant.set()
    await asking
    may_end.set()

    assert await client.silent() == []
    await live.publish("letters", "hello")
    assert (await client.push("pub", "letters"))["data"] == "hello"
