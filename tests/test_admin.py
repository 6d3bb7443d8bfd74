"""The admin: whole pages in constant queries, and actions that live sockets hear."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.models import Channel, ReceivedPublication, Subscription
from redis_pubsub.readers import SubscriptionManager
from tests.shop.models import Parcel

LISTS = ["channel", "subscription", "receivedpublication"]


def page(name, action="changelist", *args):
    return reverse(f"admin:redis_pubsub_{name}_{action}", args=args)


def add_rows(count):
    """As many channels, subscriptions and receipts, of as many users."""
    first = User.objects.count()
    numbers = range(first, first + count)
    users = User.objects.bulk_create(User(username=f"user{n:04}") for n in numbers)
    channels = Channel.objects.bulk_create(Channel(name=f"room:{n:04}") for n in numbers)
    pairs = list(zip(users, channels, strict=True))
    Subscription.objects.bulk_create(
        Subscription(subscriber=user, channel=channel, active=number % 2 == 0)
        for number, (user, channel) in enumerate(pairs)
    )
    parcels = ContentType.objects.get_for_model(Parcel)
    ReceivedPublication.objects.bulk_create(
        ReceivedPublication(
            subscriber=user,
            channel=channel,
            publication_type=parcels,
            publication_id=str(uuid.uuid4()),
        )
        for user, channel in pairs
    )


def queries_of(client, url):
    """How many queries a page takes, and the page."""
    with CaptureQueriesContext(connection) as queries:
        response = client.get(url)
    assert response.status_code == 200
    return len(queries), response


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("query", ["", "?q=0"])
def test_a_list_of_100_rows_costs_what_one_of_10_costs(admin_client, name, query):
    """P11, B31: constant queries, with a search too."""
    add_rows(10)
    admin_client.get(page(name) + query)  # fills Django's own caches
    few, of_ten = queries_of(admin_client, page(name) + query)
    add_rows(90)

    many, of_hundred = queries_of(admin_client, page(name) + query)

    assert len(of_ten.context["cl"].result_list) == 10
    assert len(of_hundred.context["cl"].result_list) == 100
    assert many == few


@pytest.mark.django_db
def test_a_channel_shows_whether_it_is_active_and_for_how_many(admin_client):
    """P11: the same truth as `Channel.active`, without its query per row."""
    add_rows(2)
    Channel.objects.earliest("name").subscribe(User.objects.get(username="admin"))
    Channel.objects.create(name="zempty")

    response = admin_client.get(page("channel"))

    rows = response.context["cl"].result_list
    assert [row.active_number for row in rows] == [2, 0, 0]
    assert [row.active for row in rows] == [True, False, False]
    assert response.content.count(b"icon-yes") == 1
    assert response.content.count(b"icon-no") == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        ("channel", "?active=1", 2),
        ("channel", "?active=0", 2),
        ("channel", "?q=room:0001", 1),
        ("channel", "?o=3", 4),
        ("subscription", "?active__exact=1", 2),
        ("subscription", "?q=user0001", 1),
        ("subscription", "?q=room:0001", 1),
        ("receivedpublication", "?q=user0001", 1),
        ("receivedpublication", "?q=room:0001", 1),
    ],
)
def test_lists_are_filtered_and_searched(admin_client, name, query, expected):
    """By the user model's own name field, by channel, by whether it is active."""
    add_rows(4)

    response = admin_client.get(page(name) + query)

    assert len(response.context["cl"].result_list) == expected


@pytest.mark.django_db
def test_a_receipt_is_found_by_its_publication(admin_client):
    """Whether this row reached anybody is the question that brings one here."""
    add_rows(3)
    receipt = ReceivedPublication.objects.all()[1]

    response = admin_client.get(
        page("receivedpublication") + f"?q={receipt.publication_id}"
    )

    assert list(response.context["cl"].result_list) == [receipt]


@pytest.mark.django_db
@pytest.mark.parametrize("name", LISTS)
def test_a_form_does_not_list_all_users_and_channels(admin_client, name):
    """Relations are looked up, not listed: a form costs the same for any table size."""
    add_rows(2)
    model = {"channel": Channel, "subscription": Subscription}.get(
        name, ReceivedPublication
    )
    row = model.objects.order_by("pk").first()
    admin_client.get(page(name, "change", row.pk))
    few, _ = queries_of(admin_client, page(name, "change", row.pk))
    add_rows(50)

    many, response = queries_of(admin_client, page(name, "change", row.pk))

    assert many == few
    assert b"room:0020" not in response.content
    assert b"user0020" not in response.content


@pytest.mark.django_db
def test_receipts_are_only_looked_at(admin_client, user):
    """Nobody writes proof by hand; who has receipts can still be deleted."""
    channel = Channel.objects.create(name="room")
    receipt = ReceivedPublication.objects.create(channel=channel, subscriber=user)
    change = page("receivedpublication", "change", receipt.pk)

    assert admin_client.get(page("receivedpublication", "add")).status_code == 403
    assert admin_client.post(change, {"publication_id": "7"}).status_code == 403
    answer = admin_client.post(
        reverse("admin:auth_user_delete", args=[user.pk]), {"post": "yes"}
    )

    assert answer.status_code == 302
    assert not ReceivedPublication.objects.exists()


@pytest.mark.django_db
def test_a_channels_name_is_checked_by_its_form(admin_client):
    """A bad name is a message beside the field, not a 500."""
    answer = admin_client.post(page("channel", "add"), {"name": "a\x07b"})

    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors["name"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("action", "before", "expected"),
    [("activate", False, "activated: 3"), ("deactivate", True, "deactivated: 3")],
)
def test_an_action_changes_the_selected_subscriptions(
    admin_client, action, before, expected
):
    """Only those that it changes are counted, in a constant number of writes."""
    add_rows(5)
    Subscription.objects.update(active=before)
    chosen = list(Subscription.objects.order_by("pk").values_list("pk", flat=True))[:4]
    Subscription.objects.filter(pk=chosen[0]).update(active=not before)

    answer = admin_client.post(
        page("subscription"), {"action": action, "_selected_action": chosen}, follow=True
    )

    assert expected in answer.content.decode()
    changed = Subscription.objects.filter(active=not before)
    assert set(changed.values_list("pk", flat=True)) == set(chosen)


@pytest.mark.django_db
def test_an_action_needs_the_permission_to_change(client, user):
    """Who may only view is not offered it, and cannot send it."""
    from django.contrib.auth.models import Permission

    add_rows(1)
    user.is_staff = True
    user.save()
    user.user_permissions.add(Permission.objects.get(codename="view_subscription"))
    client.force_login(user)
    pk = Subscription.objects.get().pk

    client.post(page("subscription"), {"action": "deactivate", "_selected_action": [pk]})

    assert Subscription.objects.get().active


@pytest.mark.django_db(transaction=True)
async def test_live_readers_hear_the_actions(admin_client, user, settings, until):
    """P11, P13: what an admin turns off goes silent at once; turned on, it is heard."""
    settings.REDIS_PUBSUB = {"url": f"memory://{uuid.uuid4().hex}"}
    channel = await Channel.objects.acreate(name="room")
    subscription = await channel.asubscribe(user)
    engine = Engine(get_config())
    await engine.start()
    manager = SubscriptionManager(engine)
    await manager.listen_to_all_subscriptions(user, lambda channel, value: None)
    await until(lambda: engine.hub.channels.get("\x00control"))

    def act(action):
        try:
            admin_client.post(
                page("subscription"),
                {"action": action, "_selected_action": [subscription.pk]},
            )
        finally:
            connections.close_all()

    await asyncio.to_thread(act, "deactivate")
    await until(lambda: not manager.readers, 1.0)
    await asyncio.to_thread(act, "activate")
    await until(lambda: "room" in manager.readers, 1.0)

    await manager.stop()
    await engine.close()
    await subscription.arefresh_from_db()
    assert subscription.active
