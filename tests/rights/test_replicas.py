"""Sites that read from a replica: it may not know yet what was just committed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group
from django.utils.functional import SimpleLazyObject

from redis_pubsub.audiences.rendering import active_users
from redis_pubsub.auth.authorize import _rows
from redis_pubsub.auth.personal import PersonalChannels, _groups_by_user
from redis_pubsub.conf import get_config
from redis_pubsub.metrics import Metrics
from redis_pubsub.models import Channel, ReceivedPublication, Subscription
from redis_pubsub.models.channels import _database_of
from redis_pubsub.publishing import revocation
from redis_pubsub.readers.live import _active
from redis_pubsub.readers.missed import find_missed, read_missed
from redis_pubsub.receipts import Receipt, record
from tests.shop.models import Letter

pytestmark = pytest.mark.django_db(databases=["default", "other"])


class ReplicaBehind:
    """Reads go to a database that has nothing yet."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        assert model._meta.managed
        return "default"

    def allow_relation(self, first, second, **hints):
        return True


@pytest.fixture
def replica(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.ReplicaBehind"]


@pytest.fixture
def subscription(user):
    return Channel.objects.create(name="news").subscribe(user)


def test_rights_are_what_was_committed(subscription, user, replica):
    """A right that was ended a moment ago is not found again in a replica, and one that was
    given is not missed there: whoever was told to look has been told after the commit."""
    user.groups.add(Group.objects.create(name="staff"))

    assert [each.pk for each in _active([str(user.pk)])] == [subscription.pk]
    assert _rows(user, ["news"]) == {"news": True}
    assert _rows(None, ["news"]) == {"news": False}
    assert _groups_by_user([str(user.pk)]) == {str(user.pk): {"staff"}}
    assert list(PersonalChannels().groups(user)) == ["staff"]


def test_the_receipt_of_a_channel_that_is_new_is_written(subscription, user, replica):
    """Without it the publication would come again."""
    record([Receipt("news", user.pk, "auth.user", "1")])

    assert ReceivedPublication.objects.using("default").count() == 1


def test_what_was_missed_is_what_was_committed(subscription, user, replica):
    """What a replica does not know yet comes neither from there nor live."""
    letter = Letter.objects.create(channel=subscription.channel)

    (missed,) = find_missed(user.pk, [subscription.channel_id], 10)
    engine = SimpleNamespace(config=get_config(), metrics=Metrics())
    (message,) = read_missed(engine, [missed])

    assert message.pk == str(letter.pk)


def test_a_subscription_that_is_new_can_be_ended(subscription, user, other_user, replica):
    """Also in the moment in which the replica lacks it."""
    subscription.channel.subscribe_all([user, other_user])

    assert subscription.channel.unsubscribe(user)
    assert not Subscription.objects.using("default").get(subscriber=user).active


def test_audiences_are_asked_for_users_as_they_were_committed(user, replica):
    """What they may see has just changed, or they would not be asked for again."""
    assert list(active_users([str(user.pk)])) == [str(user.pk)]


def test_what_was_read_from_a_replica_is_published_with_what_is_written(user, replica):
    """After the commit of the database that is written to, and into that one's outbox."""
    letter = Letter.objects.create(channel=Channel.objects.create(name="news"))
    letter._state.db = user._state.db = "other"
    request_user = SimpleLazyObject(lambda: user)

    assert _database_of(request_user) == revocation._database_of(request_user) == "default"
    assert _database_of(letter) == revocation._database_of(user) == "default"
    assert revocation._database_of(None) == "default"
