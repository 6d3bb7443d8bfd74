"""Sending to people, keeping it for those who come later, and reading it again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction

from redis_pubsub import (
    ahistory,
    alast,
    apublish_to,
    history,
    last,
    personal_channels,
    publish,
    publish_to,
)
from redis_pubsub.addresses import (
    broadcast_channel,
    group_channel,
    personal_channel,
    session_channel,
)
from redis_pubsub.exceptions import PositionLost
from redis_pubsub.messages import Position
from redis_pubsub.models import Channel, OutboxMessage
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def editors(user):
    editors = Group.objects.create(name="editors")
    user.groups.add(editors)
    return editors


def test_everybody_named_is_sent_one_copy_in_one_round_trip(sent, user, editors):
    """W-1, W-10: users, groups and sessions by row or key, and everybody; encoded once."""
    session = SessionStore()
    session.create()

    publish_to(
        {"n": 1},
        users=[user, "b:c", user.pk],
        groups=[editors, "staff"],
        sessions=[session, "key"],
        broadcast=True,
        event="news",
    )

    (batch,) = sent.batches
    assert [draft.channel for draft in batch] == [
        personal_channel(str(user.pk)),
        personal_channel("b:c"),
        group_channel("editors"),
        group_channel("staff"),
        session_channel(session.session_key),
        session_channel("key"),
        broadcast_channel(),
    ]
    assert set(sent.bodies) == {'{"n":1}'} and set(sent.events) == {"news"}
    assert len({draft.header.id for draft in batch}) == len(batch)


def test_it_waits_for_the_commit(sent, user):
    """As every publish: one round trip after the commit, nothing after a rollback."""
    with transaction.atomic():
        publish_to(1, users=[user], broadcast=True)
        with pytest.raises(RuntimeError), transaction.atomic():
            publish_to(2, broadcast=True)
            raise RuntimeError
        assert sent.batches == []

    assert [sent.bodies, len(sent.batches)] == [["1", "1"], 1]


def test_a_row_can_be_sent_to_people(sent, user, other_user):
    """W-2: as it serializes itself, with its label."""
    message = Message(body="hello", pk=7)

    publish_to(message, users=[user, other_user])

    assert [draft.header.model for draft in sent.drafts] == ["shop.message"] * 2
    assert sent.events == ["update"] * 2 and '"hello"' in sent.bodies[1]


def test_the_outbox_keeps_it(site, settings, user, sent, monkeypatch):
    """Where it is on: one row for each channel, in the transaction."""
    settings.REDIS_PUBSUB = site | {"outbox": True}
    with transaction.atomic():
        publish_to(1, users=[user], broadcast=True, expire_s=0)
        rows = list(OutboxMessage.objects.all())

    assert [row.channel for row in rows] == [personal_channel(str(user.pk)), "broadcast"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({}, "nobody is named"),
        ({"users": [AnonymousUser()]}, "is nobody"),
        ({"users": [None]}, "is nobody"),
        ({"sessions": [""]}, "never saved"),
        ({"broadcast": True, "expire_s": -1}, "from 0"),
        ({"broadcast": True, "expire_s": 5, "history": False}, "needs history"),
    ],
)
def test_nobody_is_an_error(site, wrong, text):
    """An address that reaches nobody is a mistake that is said at once."""
    with pytest.raises(ValueError, match=text):
        publish_to("x", **wrong)


def test_a_name_in_place_of_a_list_is_refused(site):
    """`users="ada"` would be three users."""
    with pytest.raises(TypeError, match="users is a list"):
        publish_to("x", users="ada")


async def test_on_the_loop_the_other_form_is_named(site, user):
    """`publish_to` would block it; `apublish_to` gives positions."""
    with pytest.raises(RuntimeError, match="apublish_to"):
        publish_to("x", users=[user])

    positions = await apublish_to("x", users=[user, "2"], expire_s=60)

    assert [position.offset for position in positions] == [1, 1]


# -- what is kept --------------------------------------------------------------------------


def test_the_last_value_is_kept_and_expires_or_is_cleared(site, user, redis_server):
    """W-3, W-4: kept for so long whatever the option says; 0 sends and clears."""
    mine = personal_channel(str(user.pk))
    assert last(mine) is None and history(mine) == []

    publish_to("a", users=[user], expire_s=60)
    publish_to("b", users=[user], expire_s=60)
    assert last(mine).payload == "b"

    publish_to("c", users=[user], expire_s=0)
    assert last(mine) is None and history(mine) == []


def test_the_last_n_are_kept_by_option(site, settings):
    """W-3: `history_size` says how many, `history_ttl_s` for how long."""
    settings.REDIS_PUBSUB = site | {"channels": {"news": {"history_size": 3}}}
    for n in range(5):
        publish("news", n, event="tick")

    found = history("news")

    assert [message.payload for message in found] == [2, 3, 4]
    assert [message.event for message in found] == ["tick"] * 3
    assert [m.payload for m in history("news", limit=2, reverse=True)] == [4, 3]
    assert [m.payload for m in history("news", since=found[0].position)] == [3, 4]
    with pytest.raises(PositionLost):
        history("news", since=Position("other", 1))
    with pytest.raises(ValueError, match="from 1 message"):
        history("news", limit=0)


def test_a_channels_row_reads_it_too(site, user):
    """`channel.history()` and `channel.last()` in a view."""
    message = Message.objects.create(body="first")
    message.body = "second"
    message.save()
    channel = Channel.objects.get(pk=message.channel_id)

    assert channel.last().pk == str(message.pk)
    assert [m.event for m in channel.history()] == ["create", "update"]


async def test_coroutines_read_it_too(site, user):
    """The `a…` twins; the blocking ones refuse."""
    await apublish_to("x", users=[user], expire_s=60)
    mine = personal_channel(str(user.pk))

    assert (await alast("nothing", mine)).payload == "x"
    assert [m.payload for m in await ahistory(mine)] == ["x"]
    for call, name in ((last, "alast"), (history, "ahistory")):
        with pytest.raises(RuntimeError, match=name):
            call(mine)


def test_what_was_last_said_to_whoever_asks(site, user, editors):
    """W-4: the nearest wins: his session, he, his groups, everybody."""
    names = personal_channels(user, "key", topic="bell")
    assert names == [
        session_channel("key", "bell"),
        personal_channel(str(user.pk), "bell"),
        group_channel("editors", "bell"),
        broadcast_channel("bell"),
    ]
    for text, whom in [
        ("all", {"broadcast": True}),
        ("group", {"groups": ["editors"]}),
        ("user", {"users": [user]}),
        ("session", {"sessions": ["key"]}),
    ]:
        publish_to(text, topic="bell", expire_s=60, **whom)
        assert last(*names).payload == text

    assert personal_channels(AnonymousUser(), None) == ["broadcast"]
    assert last(*personal_channels(AnonymousUser(), None, topic="bell")).payload == "all"


def test_a_waiting_thread_is_not_needed_to_forget(site):
    """Clearing what never was there is fine."""
    publish("empty", "x", expire_s=0)

    assert history("empty") == []


def test_clearing_loses_nobody_who_is_up_to_date(site, settings):
    """Offsets go on: who was at the top still is, who was behind is told."""
    settings.REDIS_PUBSUB = site | {"channels": {"news": {"history_size": 3}}}
    publish("news", 1)
    before = last("news").position
    publish("news", "gone", expire_s=0)
    publish("news", 2)

    assert last("news").position == Position(before.epoch, before.offset + 1)
