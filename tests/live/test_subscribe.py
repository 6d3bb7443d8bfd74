"""May it? What grants a channel to a client."""

from __future__ import annotations

import pytest

from redis_pubsub.auth.tokens import sign, subscription_token
from redis_pubsub.models import Channel, Subscription

from .client import subscribe
from .conftest import KEY

pytestmark = pytest.mark.django_db(transaction=True)


async def test_nothing_is_heard_without_a_reason(live, user, other_user, chat):
    """Default deny: 103 for a channel without a rule, for nobody where a user is wanted,
    for a user without a row; 102 for names of this package's own."""
    nobody, bob = await live.connect(), await live.connect(other_user)

    assert await nobody.error("subscribe", channel="secret") == 103
    assert await nobody.error("subscribe", channel="members:1") == 103
    assert await nobody.error("subscribe", channel="chat") == 103
    assert await bob.error("subscribe", channel="chat") == 103
    for name in ("\x00control", "\x00presence:room:1", "\x00node:x"):
        assert await nobody.error("subscribe", channel=name) == 102
    for name in ("a" * 256, "a\x7f", "tab\t"):
        assert await nobody.error("subscribe", channel=name) == 107
    assert await live.connect() is not None


async def test_a_row_an_option_and_the_own_name_are_reasons(live, user, chat):
    """Each grants; a row that is turned off does not."""
    ada = await live.connect(user)
    off = await Channel.objects.acreate(name="off")
    await Subscription.objects.acreate(subscriber=user, channel=off, active=False)

    await ada.subscribe("chat")
    await ada.subscribe("members:1")
    await ada.subscribe("room:1")
    assert await ada.error("subscribe", channel="off") == 103


def hook(*, user, channel, action, token, connection):
    if channel == "broken":
        raise RuntimeError("the hook is broken")
    return {"by-hook": True, "room:no": False, "chat": None}.get(channel) or (
        True if token == "sesame" else None
    )


async def test_the_sites_hook_is_asked(serve_live, user, chat):
    """True grants, also by a token it knows; None leaves it to the rules; what it raises
    is logged and refuses."""
    live = await serve_live(authorize_method=f"{__name__}.hook")
    ada, nobody = await live.connect(user), await live.connect()

    await nobody.subscribe("by-hook")
    await nobody.subscribe("any", token="sesame")
    await ada.subscribe("chat")
    assert await nobody.error("subscribe", channel="any-other", token="x") == 103
    assert await ada.error("subscribe", channel="broken") == 103


async def test_a_token_for_the_channel_grants_it(live, user):
    """A user's, and that of nobody; it tells its end."""
    ada, nobody = await live.connect(user), await live.connect()

    result = await ada.subscribe("vip", token=subscription_token(user, "vip", ttl_s=900))
    assert result["expires"] is True and 890 < result["ttl"] <= 900
    result = await nobody.subscribe("vip", token=subscription_token(None, "vip"))
    assert result["expires"] is True
    token = sign(b'{"sub":"%d","channel":"old"}' % user.pk, KEY)
    assert "expires" not in await ada.subscribe("old", token=token)

    await live.publish("vip", 1)
    assert (await ada.push("pub", "vip"))["data"] == 1
    assert (await nobody.push("pub", "vip"))["data"] == 1


async def test_a_token_of_another_channel_or_user_ends_the_connection(
    live, user, other_user
):
    """§5: 3500, as the reference does; expired is 109, junk is 103."""
    for token in (
        subscription_token(user, "other"),
        subscription_token(other_user, "vip"),
        subscription_token(None, "vip"),
        sign(b'{"sub":"%d"}' % user.pk, KEY),
    ):
        ada = await live.connect(user)
        await ada.say(subscribe("room:1"), subscribe("vip", token=token))
        assert await ada.ended() == (3500, "invalid token")
    ada = await live.connect(user)
    expired = subscription_token(user, "vip", ttl_s=-1)
    assert await ada.error("subscribe", channel="vip", token=expired) == 109
    assert await ada.error("subscribe", channel="vip", token="junk") == 103
    assert await ada.error("subscribe", channel="vip", token="a.b.c") == 103


async def test_the_number_of_channels_is_limited(serve_live):
    """106 for what is over it; unsubscribing makes room; 105 is 105 all the same."""
    live = await serve_live(limits={"live_channels": 2})
    client = await live.connect()
    await client.subscribe("room:1")
    await client.subscribe("room:2")

    assert await client.error("subscribe", channel="room:3") == 106
    assert await client.error("subscribe", channel="room:2") == 105
    await client.result("unsubscribe", channel="room:1")
    await client.subscribe("room:3")
