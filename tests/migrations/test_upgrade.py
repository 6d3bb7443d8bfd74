"""A database of version 1.0 migrates forward, on every kind of database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext

from redis_pubsub.models import Channel, ReceivedPublication, Subscription
from tests.shop.models import Parcel

from .conftest import MakeDatabase

TEN, ELEVEN, TWELVE = (datetime(2016, 3, 1, hour, tzinfo=UTC) for hour in (10, 11, 12))


def receipt(**changes: Any) -> ReceivedPublication:
    """One like 21 of ``rows.sql``, unsaved."""
    columns = {
        "channel_id": 1,
        "subscriber_id": 2,
        "publication_type_id": 1001,
        "publication_id": "70000",
    }
    return ReceivedPublication(**(columns | changes))


# -- what 1.0 left -----------------------------------------------------------------------


def test_channels_are_all_kept(upgraded):
    """Key, name (1.0's longest too) and time are as they were (P3, P10)."""
    channels = Channel.objects.order_by("pk")

    assert list(channels.values_list("pk", "name", "datetime_created")) == [
        (1, "news", TEN),
        (2, "ada:messages", TEN),
        (5, "n" * 100, TEN),
    ]


def test_subscriptions_are_all_kept(upgraded):
    """Inactive ones too, and they stay inactive (P3, P16)."""
    subscriptions = Subscription.objects.order_by("pk")

    assert list(
        subscriptions.values_list("pk", "channel_id", "subscriber__username", "active")
    ) == [
        (1, 1, "ada", True),
        (2, 1, "bob", True),
        (4, 1, "cyd", False),
        (5, 2, "ada", True),
    ]


def test_of_receipts_that_say_the_same_the_earliest_stays(upgraded):
    """The first of two with the same time, and nothing that differs in one column is
    lost (P3, P-12)."""
    receipts = ReceivedPublication.objects.filter(
        publication_type__isnull=False, publication_id__isnull=False
    ).order_by("pk")

    assert list(receipts.values_list("pk", "publication_id", "datetime_received")) == [
        (12, "70000", ELEVEN),
        (21, "70000", TWELVE),
        (22, "70000", TWELVE),
        (23, "30000", TWELVE),
        (24, "70000", TWELVE),
        (25, "2147483647", TWELVE),
    ]


def test_receipts_of_nothing_known_are_all_kept(upgraded):
    """1.0 allowed receipts without a type or an id; none repeats another (P3)."""
    receipts = ReceivedPublication.objects.exclude(
        publication_type__isnull=False, publication_id__isnull=False
    ).order_by("pk")

    assert list(receipts.values_list("pk", "publication_type_id", "publication_id")) == [
        (31, None, "70000"),
        (32, None, "70000"),
        (33, 1001, None),
        (34, 1001, None),
        (35, None, None),
        (36, None, None),
    ]


# -- what is new -------------------------------------------------------------------------


def test_a_channel_name_may_have_255_characters(upgraded):
    """One more is refused with the reason, not by the database (P10)."""
    channel = Channel.objects.create(name="é" * 255)

    channel.refresh_from_db()
    assert channel.name == "é" * 255
    with pytest.raises(ValidationError, match="255"):
        Channel.objects.create(name="é" * 256)


def test_a_channel_name_is_still_unique(upgraded):
    """The constraint outlived its column's change (P10)."""
    with pytest.raises(IntegrityError), transaction.atomic():
        Channel.objects.create(name="news")


def test_new_rows_are_numbered_after_those_of_version_1(upgraded):
    """The keys stay the kind they were, and go on counting (P3)."""
    channel = Channel.objects.create(name="weather")
    subscription = channel.subscribe(Subscription.objects.get(pk=1).subscriber)
    received = receipt(channel_id=channel.pk)
    received.save()

    assert channel.pk > 5
    assert subscription.pk > 5
    assert received.pk > 36


def test_a_receipt_keeps_a_uuid(upgraded):
    """It comes back as text, and finds its publication again (P18, P-12)."""
    parcel = Parcel.objects.create(
        channel_id=1, pk=uuid.UUID("0e984725-c51c-4bf4-9960-e1c80e27aba0")
    )

    received = receipt(publication=parcel)
    received.save()

    received = ReceivedPublication.objects.get(pk=received.pk)
    assert received.publication_id == "0e984725-c51c-4bf4-9960-e1c80e27aba0"
    assert received.publication == parcel


def test_a_receipt_keeps_a_long_text(upgraded):
    """Any script, as many characters as a key may have (P18, P-12)."""
    received = receipt(publication_id="ключ-鍵-🔑" + "x" * 246)
    received.save()

    received.refresh_from_db()
    assert received.publication_id == "ключ-鍵-🔑" + "x" * 246


@pytest.mark.parametrize("key", ["70000", "0e984725-c51c-4bf4-9960-e1c80e27aba0"])
def test_a_second_receipt_of_the_same_is_refused(upgraded, key):
    """Whether the first is 1.0's or ours (P-12)."""
    ReceivedPublication.objects.bulk_create(
        [receipt(publication_id=key)], ignore_conflicts=True
    )

    with pytest.raises(IntegrityError), transaction.atomic():
        receipt(publication_id=key).save()


def test_keys_that_differ_in_case_are_two_publications(upgraded):
    """Also where the database's collation thinks that they are equal (P-12)."""
    receipt(publication_id="dQw4w9WgXcQ").save()
    receipt(publication_id="dqw4w9wgxcq").save()

    assert ReceivedPublication.objects.filter(publication_id="dQw4w9WgXcQ").count() == 1


def test_a_second_subscription_of_a_user_is_refused(upgraded):
    """1.0's constraint is still there (P16)."""
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscription.objects.create(channel_id=1, subscriber_id=1)


def test_receipts_are_found_by_publication_through_an_index(upgraded):
    """Type and id, in this order (P18)."""
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(
            cursor, ReceivedPublication._meta.db_table
        )

    index = constraints["redis_pubsub_publication"]
    assert index["index"]
    assert index["columns"] == ["publication_type_id", "publication_id"]


def test_the_models_need_no_further_migration(upgraded):
    """``makemigrations --check`` has nothing to say (P1)."""
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


# -- how -----------------------------------------------------------------------------------


def test_many_receipts_take_as_many_queries_as_few(old_database: MakeDatabase):
    """A site that ran 1.0 for years has millions of them to merge (P3)."""
    with old_database() as database:
        few = _queries_of_the_migration(database)

    with old_database() as database:
        with transaction.atomic(), database.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO redis_pubsub_receivedpublication (datetime_received,"
                " publication_type_id, publication_id, channel_id, subscriber_id)"
                " VALUES ('2016-03-01 12:00:00', 1001, %s, 1, 1)",
                [(number % 300 + 1000,) for number in range(3000)],
            )
        many = _queries_of_the_migration(database)
        left = ReceivedPublication.objects.filter(pk__gt=36).count()

    assert many == few
    assert left == 300


def test_the_migration_goes_back_and_forward_again(old_database: MakeDatabase):
    """Going back keeps every row that fits 1.0's columns; merged receipts stay merged
    (P3)."""
    with old_database() as database:
        call_command("migrate", "redis_pubsub", verbosity=0)
        call_command("migrate", "redis_pubsub", "0001", verbosity=0)

        with database.cursor() as cursor:
            cursor.execute(
                "SELECT id, publication_id FROM redis_pubsub_receivedpublication"
                " WHERE id < 30 ORDER BY id"
            )
            assert list(cursor.fetchall()) == [
                (12, 70000),
                (21, 70000),
                (22, 70000),
                (23, 30000),
                (24, 70000),
                (25, 2147483647),
            ]

        call_command("migrate", "redis_pubsub", verbosity=0)
        assert Channel.objects.count() == 3
        assert Subscription.objects.count() == 4
        assert ReceivedPublication.objects.count() == 12


def test_a_site_without_rows_migrates_too(old_database: MakeDatabase):
    """1.0 was installed and never used (P3)."""
    with old_database() as database:
        with database.cursor() as cursor:
            for table in ("receivedpublication", "subscription", "channel"):
                cursor.execute(f"DELETE FROM redis_pubsub_{table}")

        call_command("migrate", "redis_pubsub", verbosity=0)

        assert not ReceivedPublication.objects.exists()


def _queries_of_the_migration(database: BaseDatabaseWrapper) -> int:
    with CaptureQueriesContext(database) as queries:
        call_command("migrate", "redis_pubsub", verbosity=0)
    return len(queries)
