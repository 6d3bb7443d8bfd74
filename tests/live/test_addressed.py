"""What live connections hear of what is sent to people."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group

from redis_pubsub import apublish_to, arefresh
from redis_pubsub.addresses import (
    broadcast_channel,
    group_channel,
    personal_channel,
    session_channel,
)
from redis_pubsub.auth import PersonalChannels

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def editors(user):
    editors = await Group.objects.acreate(name="editors")
    await user.groups.aadd(editors)
    return editors


async def browser(live, cookie):
    client = await live.open(headers={"Cookie": cookie}, origin=live.url)
    client.result_of_connect = await client.result("connect")
    return client


async def test_each_addressee_hears_his_own_and_nobody_elses(
    live, user, other_user, editors, session_cookie
):
    """W-1, W-8: four audiences reach whom they are for, four times nobody else does."""
    ada, bob = await browser(live, session_cookie), await live.connect(other_user)
    key = session_cookie.partition("=")[2]
    mine = personal_channel(str(user.pk))

    await apublish_to("you", users=[user])
    await apublish_to("editors", groups=["editors"])
    await apublish_to("tab", sessions=[key])
    assert (await ada.push("pub", mine))["data"] == "you"
    assert (await ada.push("pub", group_channel("editors")))["data"] == "editors"
    assert (await ada.push("pub", session_channel(key)))["data"] == "tab"
    assert await bob.silent() == []

    await apublish_to("everybody", broadcast=True)
    for client in (ada, bob):
        assert (await client.push("pub", "broadcast"))["data"] == "everybody"


async def test_a_topic_is_heard_by_whom_it_is_for_and_asks(
    live, user, other_user, editors, session_cookie
):
    """W-5: asked for by name; default deny for everybody else."""
    ada, bob = await browser(live, session_cookie), await live.connect(other_user)
    key = session_cookie.partition("=")[2]
    topics = [
        personal_channel(str(user.pk), "bell"),
        group_channel("editors", "bell"),
        session_channel(key, "bell"),
    ]

    for channel in topics:
        assert await bob.error("subscribe", channel=channel) == 103
        await ada.subscribe(channel)
    await bob.subscribe(broadcast_channel("bell"))

    await apublish_to("dong", topic="bell", users=[user])
    assert (await ada.push("pub", topics[0]))["data"] == "dong"
    assert await bob.silent() == []


async def test_a_wide_rule_opens_nobodys_own(serve_live, user, other_user):
    """A rule for every channel does not speak of what is for somebody."""
    live = await serve_live(channels={"*": {"subscribe": "anyone", "publish": "anyone"}})
    bob = await live.connect(other_user)

    for channel in (
        personal_channel(str(user.pk), "bell"),
        group_channel("editors"),
        session_channel("key"),
    ):
        assert await bob.error("subscribe", channel=channel) == 103
    assert await bob.error("publish", channel="broadcast", data=1) == 103


async def test_a_client_that_comes_later_gets_what_is_shown_to_the_new(serve_live, user):
    """W-3: `replay`: the last values come right behind the reply, then live ones; a client
    that recovers gets what it missed, and nothing twice."""
    mine = personal_channel(str(user.pk))
    live = await serve_live(channels={"user:*": {"history_size": 5, "replay": 2}})
    for n in range(4):
        await apublish_to(n, users=[user])

    client = await live.connect(user)

    subscription = client.result_of_connect["subs"][mine]
    assert subscription["offset"] == 2 and "publications" not in subscription
    pushes = [await client.push("pub", mine) for _ in range(2)]
    assert [(push["data"], push["offset"]) for push in pushes] == [(2, 3), (3, 4)]
    await apublish_to("live", users=[user])
    assert (await client.push("pub", mine))["offset"] == 5

    position = {"recover": True, "epoch": subscription["epoch"], "offset": 4}
    again = await live.connect(user, subs={mine: position})
    recovered = again.result_of_connect["subs"][mine]
    assert [each["data"] for each in recovered["publications"]] == ["live"]
    assert await again.silent() == []


async def test_a_subscription_replays_too(serve_live):
    """Of a channel that the client asks for."""
    live = await serve_live(
        channels={"board": {"subscribe": "anyone", "history_size": 3, "replay": 9}}
    )
    for n in range(5):
        await live.publish("board", n)
    client = await live.connect()

    await client.subscribe("board")

    assert [(await client.push("pub", "board"))["data"] for _ in range(3)] == [2, 3, 4]
    assert await client.silent() == []


async def test_a_new_group_is_heard_without_a_new_connection(live, user, until):
    """W-1: after `refresh` the connection is subscribed to what it may hear now, and
    unsubscribed from what it may not."""
    await Group.objects.acreate(name="others")
    client = await live.connect(user)
    editors = await Group.objects.acreate(name="editors")
    await user.groups.aadd(editors)

    await arefresh(user)

    channel = group_channel("editors")
    assert (await client.push("subscribe", channel))["positioned"] is True
    await apublish_to("hello", groups=[editors])
    assert (await client.push("pub", channel))["data"] == "hello"

    await user.groups.aremove(editors)
    await arefresh(user)
    assert (await client.push("unsubscribe", channel))["code"] == 2000


async def test_the_very_first_group_of_a_site_is_heard_at_once(live, user):
    """Though a moment ago it was known that there are none."""
    client = await live.connect(user)

    await user.groups.aadd(await Group.objects.acreate(name="editors"))

    await client.push("subscribe", group_channel("editors"))


async def test_a_group_that_is_renamed_takes_its_members_along(live, user):
    """Another group may have the old name tomorrow."""
    editors = await Group.objects.acreate(name="editors")
    await user.groups.aadd(editors)
    client = await live.connect(user)

    editors.name = "authors"
    await editors.asave()

    push = await client.push("unsubscribe", group_channel("editors"))
    assert push["code"] == 2000
    await client.push("subscribe", group_channel("authors"))


async def test_the_rounds_find_a_membership_that_sql_has_ended(serve_live, user):
    """Also where no signal told anybody."""
    live = await serve_live(limits={"recheck_s": 1})
    through = user.groups.through
    editors = await Group.objects.acreate(name="editors")
    await user.groups.aadd(editors)
    client = await live.connect(user)

    await sync_to_async(through.objects.all()._raw_delete)(through.objects.db)

    push = await client.push("unsubscribe", group_channel("editors"))
    assert push["code"] == 2000


class TeamChannels(PersonalChannels):
    """A site's own class."""

    def channels(self, user, session_key):
        own = super().channels(user, session_key)
        return [*own, f"team:{user.get_username()}"] if user is not None else own


class AsyncChannels(PersonalChannels):
    async def channels(self, user, session_key):
        return ["lobby"]


@pytest.mark.parametrize("kind", [TeamChannels, AsyncChannels])
async def test_a_site_says_what_is_heard_without_asking(serve_live, user, kind):
    """W-7, W-16: a subclass in the settings; plain or async."""
    path = f"{__name__}.{kind.__name__}"
    live = await serve_live(live={"personal_channels": path})

    client = await live.connect(user)

    mine = [personal_channel(str(user.pk)), "broadcast", "team:ada"]
    expected = mine if kind is TeamChannels else ["lobby"]
    assert list(client.result_of_connect["subs"]) == expected


async def test_a_class_that_fails_lets_the_client_try_again(
    serve_live, user, monkeypatch, caplog
):
    """A temporary error and a traceback; never half of what it is to hear."""
    live = await serve_live()

    def fail(self, user, session_key):
        raise RuntimeError("broken")

    monkeypatch.setattr(PersonalChannels, "channels", fail)
    client = await live.open()

    assert await client.error("connect") == 100
    assert "broken" in caplog.text


async def test_a_sender_does_not_get_its_own(live, user):
    """W-7: by connection id, not by content."""
    first, second = await live.connect(user), await live.connect(user)

    await apublish_to("x", users=[user], exclude=first.result_of_connect["client"])
    await apublish_to("y", users=[user])

    mine = personal_channel(str(user.pk))
    assert (await second.push("pub", mine))["data"] == "x"
    assert (await first.push("pub", mine))["data"] == "y"


async def test_a_message_from_a_view_reaches_the_socket(live, user):
    """W-2: plain values from synchronous Django."""
    from redis_pubsub import publish_to

    client = await live.connect(user)

    await sync_to_async(publish_to)({"text": "hi"}, users=[user])

    pushed = await client.push("pub", personal_channel(str(user.pk)))
    assert pushed["data"] == {"text": "hi"}
