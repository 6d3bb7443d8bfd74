"""Channels and subscriptions as rows."""

from __future__ import annotations

import threading

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction

from redis_pubsub.models import Channel, ReceivedPublication, Subscription
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def channel(site):
    return Channel.objects.create(name="ada:messages")


def test_subscribing_returns_the_subscription(channel, user):
    """P-3, P12 (1.0's test_channel_subscription_returns_subscription)."""
    subscription = channel.subscribe(user)

    assert isinstance(subscription, Subscription)
    assert (subscription.subscriber, subscription.channel) == (user, channel)
    assert (
        list(user.subscriptions.all()) == list(channel.subscribers.all()) == [subscription]
    )


def test_subscribing_again_turns_the_subscription_on(channel, user):
    """P-3: one row, reactivated."""
    subscription = channel.subscribe(user)
    assert channel.unsubscribe(user) is True
    assert channel.unsubscribe(user) is False

    again = channel.subscribe(user)

    assert again.pk == subscription.pk and again.active


def test_a_subscribe_that_changes_nothing_writes_nothing(
    channel, user, django_assert_num_queries
):
    """B27: one look, no write."""
    channel.subscribe(user)

    with django_assert_num_queries(1):
        channel.subscribe(user)


def test_many_are_subscribed_in_a_constant_number_of_queries(
    channel, django_user_model, django_assert_max_num_queries
):
    """P8: `instance.subscribe(*users)`, idempotent, inactive ones turned on."""
    users = [django_user_model.objects.create(username=f"user {n}") for n in range(30)]
    message = Message.objects.create(channel=channel)
    channel.subscribe(users[0])
    channel.unsubscribe(users[0])

    with django_assert_max_num_queries(9):
        message.subscribe(*users)
    message.subscribe(*users)

    assert channel.subscribers.filter(active=True).count() == 30
    assert Subscription.objects.count() == 30


def test_two_subscribes_at_once_make_one_row(channel, user):
    """P12: the constraint decides, and neither caller sees an error."""
    barrier, errors = threading.Barrier(4), []

    def subscribe():
        try:
            barrier.wait(5)
            channel.subscribe(user)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=subscribe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert errors == [] and Subscription.objects.count() == 1


def test_a_subscription_is_unique(channel, user):
    """P16: subscriber and channel."""
    channel.subscribe(user)

    with pytest.raises(IntegrityError), transaction.atomic():
        Subscription.objects.create(subscriber=user, channel=channel)


def test_active_says_whether_anybody_listens(channel, user):
    """P11: one query, in the property alone."""
    assert not channel.active
    channel.subscribe(user)
    assert channel.active
    channel.unsubscribe(user)
    assert not channel.active


def test_rows_name_themselves_without_a_query(channel, user, django_assert_num_queries):
    """B27: lists of rows in logs and admin cost nothing."""
    subscription = Subscription.objects.get(pk=channel.subscribe(user).pk)
    receipt = ReceivedPublication(channel=channel, subscriber=user, publication_id="7")

    with django_assert_num_queries(0):
        assert str(channel) == "ada:messages"
        assert str(user.pk) in str(subscription) and "inactive" not in str(subscription)
        assert "7" in str(receipt)


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "empty"), ("x" * 256, "255 characters, this has 256"), ("a\nb", "control")],
)
def test_a_name_that_is_none_is_a_validation_error(name, said):
    """P10, bad input: at the save, saying what and the limit."""
    with pytest.raises(ValidationError, match=said):
        Channel.objects.create(name=name)
    with pytest.raises(ValidationError):
        Channel(name=name).full_clean()


def test_names_of_255_characters_and_any_script_are_fine():
    """P10: as in `"{username}:messages"`."""
    for name in ("x" * 255, "日本:messages", "a b/c"):
        assert Channel.objects.create(name=name).name == name


def test_undelivered_pairs_are_those_without_a_receipt(site, channel, user, other_user):
    """P-13 (1.0's test_undelivered): nobody listened, so every active subscriber misses
    it; an inactive one does not."""
    channel.subscribe(user)
    channel.subscribe(other_user)
    channel.unsubscribe(other_user)
    message = Message.objects.create(channel=channel)

    assert (user, message) in Message.objects.get_undelivered()
    assert list(Message.objects.get_undelivered()) == [(user, message)]
