"""The shipped handler of the README's `{"action": …}` protocol."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets.subscriptions import subscriptions
from redis_pubsub.models import Channel, Subscription

pytestmark = pytest.mark.django_db(transaction=True)


def allow_rooms(user, channel, action, token, connection):
    """A plain function: it may query."""
    return Channel.objects.filter(name=channel, name__startswith="room:").exists() or None


async def refuse_everything(**kwargs):
    return False


def broken_method(**kwargs):
    raise RuntimeError("my hook is broken")


@pytest.fixture
def rules(request, settings, site):
    """Settings of the test, in force before the server starts."""
    settings.REDIS_PUBSUB = site | getattr(request, "param", {})


@pytest.fixture
async def connect(rules, serve, token):
    served = await serve(subscriptions)

    async def connect():
        ws = await served.connect(
            "/subscriptions/", headers={"Authorization": f"Bearer {token}"}
        )
        # The answer to a first command says that the handler is listening.
        await ws.send_json({"action": "hello", "channel": "x"})
        assert "error" in await ws.receive_json()
        return ws

    connect.served = served
    return connect


async def test_stored_subscriptions_arrive_with_channel_and_event(connect, user):
    """P45: what the user subscribed to is heard from the start."""
    await (await Channel.objects.acreate(name="mine")).asubscribe(user)
    ws = await connect()

    await apublish("mine", {"a": 1}, event="said")

    assert await ws.receive_json() == {
        "channel": "mine",
        "event": "said",
        "payload": {"a": 1},
    }
    await ws.close()


async def test_unsubscribe_is_effective_when_it_is_answered(connect, user):
    """P45: the row is inactive and the socket silent after the reply; other tabs too."""
    channel = await Channel.objects.acreate(name="mine")
    await channel.asubscribe(user)
    ws, tab = await connect(), await connect()

    await ws.send_json({"action": "unsubscribe", "channel": "mine"})
    assert await ws.receive_json() == {"ok": "unsubscribe", "channel": "mine"}
    await apublish("mine", 1)
    await ws.send_json({"action": "unsubscribe", "channel": "mine"})

    assert await ws.receive_json() == {"error": "not subscribed", "channel": "mine"}
    assert not await Subscription.objects.filter(active=True).aexists()
    await ws.close()
    await tab.close()


async def test_subscribing_is_denied_by_default(connect, user, other_user):
    """W-5, B13: another's channel and one that does not exist get the same answer."""
    await (await Channel.objects.acreate(name="bobs")).asubscribe(other_user)
    ws = await connect()

    for name in ("bobs", "no such channel"):
        await ws.send_json({"action": "subscribe", "channel": name})
        assert await ws.receive_json() == {"error": "permission denied", "channel": name}
    await apublish("bobs", 1)
    await ws.send_json({"action": "nonsense", "channel": "x"})
    assert "error" in await ws.receive_json()
    await ws.close()


@pytest.mark.parametrize(
    "rules",
    [
        {"channels": {"room:*": {"subscribe": "authenticated"}}},
        {"channels": {"room:*": {"subscribe": "anyone"}}},
        {"authorize_method": f"{__name__}.allow_rooms"},
    ],
    ids=["authenticated", "anyone", "authorize_method"],
    indirect=True,
)
async def test_a_rule_or_the_hook_allows(connect, user):
    """W-5: channel option or `authorize_method`; the row is made, and heard."""
    await Channel.objects.acreate(name="room:1")
    ws = await connect()

    await ws.send_json({"action": "subscribe", "channel": "room:1"})
    assert await ws.receive_json() == {"ok": "subscribe", "channel": "room:1"}
    await apublish("room:1", "hello")

    assert (await ws.receive_json())["payload"] == "hello"
    assert await Subscription.objects.filter(channel__name="room:1", active=True).aexists()
    await ws.close()


@pytest.mark.parametrize(
    "rules",
    [
        {
            "channels": {"room:*": {"subscribe": "anyone"}},
            "authorize_method": f"{__name__}.{method}",
        }
        for method in ("refuse_everything", "broken_method")
    ],
    indirect=True,
)
async def test_the_hooks_no_wins_and_its_error_is_a_no(connect, user):
    """False over an option that allows; an exception is logged and refuses."""
    await Channel.objects.acreate(name="room:1")
    ws = await connect()

    await ws.send_json({"action": "subscribe", "channel": "room:1"})

    assert await ws.receive_json() == {"error": "permission denied", "channel": "room:1"}
    await ws.close()


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"action": 1, "channel": 2}', "null"]
)
async def test_garbage_is_answered_and_the_socket_stays(connect, text):
    """A named error; the next command works."""
    ws = await connect()

    await ws.send_str(text)

    assert "action" in (await ws.receive_json())["error"]
    await ws.close()


async def test_a_new_subscription_from_anywhere_is_heard(connect, user, until):
    """P-7: made by a view, heard by open sockets."""
    ws = await connect()
    channel = await Channel.objects.acreate(name="new")

    await channel.asubscribe(user)
    await until(lambda: connect.served.engine.hub.is_heard("new"))
    await apublish("new", 1)

    assert (await ws.receive_json())["channel"] == "new"
    await ws.close()


async def test_a_membership_is_not_turned_into_a_stored_subscription(connect, user):
    """It would outlive the membership: who is in a group hears its channel without one."""
    group = await Group.objects.acreate(name="staff")
    await user.groups.aadd(group)
    await Channel.objects.acreate(name="group:staff")
    ws = await connect()

    await ws.send_json({"action": "subscribe", "channel": "group:staff"})

    assert "error" in await ws.receive_json()
    assert not await Subscription.objects.aexists()
    await ws.close()
