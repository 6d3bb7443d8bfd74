"""Permissions that end: the connection's own, and those of single channels."""

from __future__ import annotations

import asyncio

import pytest
from django.db import OperationalError

from redis_pubsub.auth.tokens import connection_token, sign, subscription_token
from redis_pubsub.contrib.live import connecting

from .conftest import KEY

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_refresh_lengthens_the_connection(serve_live, user):
    """§9: a new ttl, and the old end does not come."""
    live = await serve_live(limits={"live_expiry_grace_s": 0.0})
    ada = await live.open()
    short = connection_token(user, ttl_s=0.4)
    result = await ada.result("connect", token=short)
    assert result["ttl"] == 1

    result = await ada.result("refresh", token=connection_token(user, ttl_s=900))
    assert result["expires"] is True and 890 < result["ttl"] <= 900
    assert result["client"] and result["version"]
    await asyncio.sleep(0.5)
    assert await ada.silent() == []

    endless = sign(b'{"sub":"%d"}' % user.pk, KEY)
    result = await ada.result("refresh", token=endless)
    assert "expires" not in result and "ttl" not in result


async def test_a_connection_ends_after_its_token_and_some_grace(serve_live, user):
    """§9: 3005: the client comes back with its old token, meets 109, and fetches one."""
    live = await serve_live(limits={"live_expiry_grace_s": 0.1})
    ada = await live.connect(user)
    token = connection_token(user, ttl_s=0.1)

    await ada.result("refresh", token=token)

    assert await ada.ended() == (3005, "connection expired")
    again = await live.open()
    assert await again.error("connect", token=token) == 109


async def test_a_refresh_with_a_bad_token_ends_the_connection(live, user, other_user):
    """§9: never 109 here: expired is 3005; another user's or junk is 3500."""
    bad = [
        (connection_token(user, ttl_s=-1), 3005),
        (connection_token(other_user), 3500),
        (subscription_token(user, "vip"), 3500),
        ("junk", 3500),
        ("", 3500),
    ]
    for token, code in bad:
        ada = await live.connect(user)
        await ada.say({"refresh": {"token": token}})
        assert (await ada.ended())[0] == code


async def test_a_refresh_that_cannot_be_checked_is_tried_again(live, user, monkeypatch):
    """The database is down: a temporary error, and the connection stays."""
    ada = await live.connect(user)

    def down(pk):
        raise OperationalError("the database is away")

    monkeypatch.setattr(connecting, "_active_user", down)
    reply = await ada.call("refresh", token=connection_token(user))
    assert reply["error"]["code"] == 100 and reply["error"]["temporary"] is True


async def test_a_subscription_ends_after_its_token(serve_live, user):
    """§9: push 2501, and the client subscribes anew with another token; the connection
    stays."""
    live = await serve_live(limits={"live_expiry_grace_s": 0.05})
    ada = await live.connect(user)
    await ada.subscribe("vip", token=subscription_token(user, "vip", ttl_s=0.1))

    assert await ada.push("unsubscribe", "vip") == {
        "code": 2501,
        "reason": "subscription expired",
    }
    await live.publish("vip", 1)
    assert await ada.silent() == []
    await ada.subscribe("vip", token=subscription_token(user, "vip"))


async def test_a_new_token_lengthens_a_subscription(serve_live, user, other_user):
    """§9: also one that is not for ever; expired is a temporary error, never 109; another
    channel's or user's is 3500; without a subscription 103."""
    live = await serve_live(limits={"live_expiry_grace_s": 0.0})
    ada = await live.connect(user)
    await ada.subscribe("vip", token=subscription_token(user, "vip", ttl_s=0.3))

    fresh = subscription_token(user, "vip", ttl_s=900)
    result = await ada.result("sub_refresh", channel="vip", token=fresh)
    assert result["expires"] is True and 890 < result["ttl"] <= 900
    await asyncio.sleep(0.4)
    assert await ada.silent() == []

    expired = subscription_token(user, "vip", ttl_s=-1)
    reply = await ada.call("sub_refresh", channel="vip", token=expired)
    assert reply["error"]["code"] == 100 and reply["error"]["temporary"] is True
    other = subscription_token(user, "other")
    assert await ada.error("sub_refresh", channel="other", token=other) == 103
    for token in (other, subscription_token(other_user, "vip"), "junk"):
        ada = await live.connect(user)
        await ada.subscribe("vip", token=fresh)
        await ada.say({"sub_refresh": {"channel": "vip", "token": token}})
        assert (await ada.ended())[0] == 3500


async def test_an_unsubscribed_channel_does_not_expire(serve_live, user):
    """The end of a token is no end of a later subscription without one."""
    live = await serve_live(limits={"live_expiry_grace_s": 0.0})
    ada = await live.connect(user)
    await ada.subscribe("room:1", token=subscription_token(user, "room:1", ttl_s=0.2))
    await ada.result("unsubscribe", channel="room:1")
    await ada.subscribe("room:1")

    await asyncio.sleep(0.3)

    assert await ada.silent() == []
