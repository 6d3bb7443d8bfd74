"""``get_undelivered()`` in an upgraded database, on every kind of database.

Of the channel "news", ada and bob have active subscriptions and cyd an inactive one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from redis_pubsub.models import Channel, ReceivedPublication, Subscription
from redis_pubsub.receipts import Receipt, record
from tests.shop.models import Message, Parcel

from .conftest import MakeDatabase

both_keys = pytest.mark.parametrize(
    "model", [pytest.param(Message, id="integer"), pytest.param(Parcel, id="uuid")]
)


@pytest.fixture
def ada(upgraded: Any) -> Any:
    return get_user_model().objects.get(username="ada")


@pytest.fixture
def bob(upgraded: Any) -> Any:
    return get_user_model().objects.get(username="bob")


@pytest.fixture
def news(upgraded: Any) -> Channel:
    return Channel.objects.get(name="news")


def deliver(instance: Any, *users: Any) -> None:
    """What a reader writes when the callbacks of these users have returned."""
    model = instance._meta.label
    name = instance.channel.name
    record(Receipt(name, user.pk, model, str(instance.pk)) for user in users)


@both_keys
def test_what_nobody_received_is_due_to_every_active_subscriber(model, ada, bob, news):
    """Inactive subscriptions are owed nothing (P19, P16)."""
    instance = model.objects.create(channel=news)

    pairs = model.objects.get_undelivered()

    assert sorted(pairs, key=str) == [(ada, instance), (bob, instance)]


@both_keys
def test_after_delivery_to_one_of_two_only_the_other_remains(model, ada, bob, news):
    """A receipt takes exactly its own pair away (P19)."""
    first = model.objects.create(channel=news)
    second = model.objects.create(channel=news)

    deliver(first, ada, bob)
    deliver(second, ada)

    assert list(model.objects.get_undelivered()) == [(bob, second)]


@both_keys
def test_nothing_is_due_after_delivery_to_all(model, ada, bob, news):
    """Not a pair is left, whichever way one asks (P19)."""
    instance = model.objects.create(channel=news)

    deliver(instance, ada, bob)

    undelivered = model.objects.get_undelivered()
    assert not undelivered
    assert undelivered.count() == 0
    assert list(undelivered) == []


@both_keys
def test_two_tabs_of_a_user_leave_one_receipt(model, ada, news):
    """Delivered twice, noted once, and no error (P18, P-12)."""
    instance = model.objects.create(channel=news)

    deliver(instance, ada)
    deliver(instance, ada, ada)

    kind = ContentType.objects.get_for_model(model)
    received = ReceivedPublication.objects.get(
        publication_type=kind, subscriber=ada, pk__gt=36
    )
    assert received.publication == instance


def test_receipts_of_version_1_still_count(ada, bob, news):
    """What 1.0 delivered is not due again; what it did not, is (P19, P3)."""
    first = Message.objects.create(pk=70000, channel=news)
    second = Message.objects.create(pk=30000, channel=news)

    undelivered = Message.objects.get_undelivered()

    # 1.0 delivered the first to both (receipts 12 and 21), the second to ada (23).
    assert (ada, first) not in undelivered
    assert list(undelivered) == [(bob, second)]


def test_a_receipt_for_another_channel_or_model_does_not_count(ada, bob):
    """It reached ada over two channels, and a `Silent` of that number too (P19)."""
    elsewhere = Channel.objects.create(name="elsewhere")
    elsewhere.subscribe(ada)

    instance = Message.objects.create(pk=70000, channel=elsewhere)

    assert list(Message.objects.get_undelivered()) == [(ada, instance)]


def test_a_subscription_turned_off_is_due_nothing_until_it_is_on_again(ada, bob, news):
    """1.0 went on counting inactive ones (P16, P19)."""
    instance = Message.objects.create(channel=news)

    Subscription.objects.filter(subscriber=bob).update(active=False)
    assert list(Message.objects.get_undelivered()) == [(ada, instance)]

    news.subscribe(bob)
    assert (bob, instance) in Message.objects.get_undelivered()


@both_keys
@pytest.mark.parametrize("amount", [1, 30])
def test_it_takes_two_queries_whatever_the_amount(model, amount, ada, news):
    """In a loop, as a list and for its length (P19, P-13)."""
    instances = [model(channel=news) for _ in range(amount)]
    for instance in instances:
        instance.save()
    deliver(instances[0], ada)
    # Has content types cached, the model's and those of its inherited tables, which
    # Django asks for once.
    assert model.objects.get_undelivered()

    for read in (_in_a_loop, list, len):
        undelivered = model.objects.get_undelivered()
        with CaptureQueriesContext(connection) as queries:
            found = read(undelivered)
        assert len(queries) == 2
        assert (found if read is len else len(found)) == 2 * amount - 1


def test_it_can_be_narrowed(ada, bob, news):
    """By user, channel and the rows' own columns (P19, P-13)."""
    private = Channel.objects.get(name="ada:messages")
    public_message = Message.objects.create(channel=news, body="public")
    private_message = Message.objects.create(channel=private, body="private")

    undelivered = Message.objects.get_undelivered()

    assert list(undelivered.for_user(bob)) == [(bob, public_message)]
    assert list(undelivered.on_channel(private)) == [(ada, private_message)]
    assert list(undelivered.filter(body="private")) == [(ada, private_message)]
    assert undelivered.for_user(ada).count() == 2


# -- tables that their owner changed -------------------------------------------------------


class Char32UUIDField(models.UUIDField):
    """Django's own recipe for tables older than MariaDB's type for uuids."""

    def db_type(self, connection: Any) -> str:
        return "char(32)"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        return None if value is None else value.hex


@pytest.fixture
def changed(kind: str, old_database: MakeDatabase) -> Iterator[Callable[[str], Any]]:
    """Changes tables of an upgraded database of the test's own."""
    if not kind.startswith("mariadb"):
        pytest.skip("a matter of MySQL's collations and types")
    with old_database() as database:
        call_command("migrate", verbosity=0)
        yield database.cursor().execute


def created(model: Any) -> Any:
    """A row on "news"; silent, since here nothing is rolled back."""
    news = Channel.objects.get(name="news")
    return model.objects.bulk_create([model(channel=news)], publish=False)[0]


@both_keys
def test_a_table_converted_to_another_collation_is_compared_all_the_same(model, changed):
    """Converting every table is how sites left MySQL's old utf8 (P19)."""
    changed(
        "ALTER TABLE redis_pubsub_receivedpublication"
        " CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_spanish_ci"
    )
    ada, bob, _ = get_user_model().objects.order_by("username")
    instance = created(model)

    deliver(instance, ada)

    assert list(model.objects.get_undelivered()) == [(bob, instance)]


def test_uuids_kept_as_text_are_compared_all_the_same(changed, monkeypatch):
    """A receipt has dashes, such a column has not (P19, P-12)."""
    changed("ALTER TABLE shop_parcel MODIFY id char(32) NOT NULL")
    monkeypatch.setattr(Parcel._meta.pk, "__class__", Char32UUIDField)
    ada, bob, _ = get_user_model().objects.order_by("username")
    parcel = created(Parcel)

    deliver(parcel, ada)

    assert list(Parcel.objects.get_undelivered()) == [(bob, parcel)]


def _in_a_loop(pairs: Any) -> list[Any]:
    return [pair for pair in pairs]  # noqa: C416 (list() would ask for the length)
