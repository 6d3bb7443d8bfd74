"""A savepoint that is made when something is asked, and only then."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from redis_pubsub import publish
from redis_pubsub.publishing.savepoints import SavepointIfQueried
from tests.shop.models import Order, Tag

pytestmark = pytest.mark.django_db(transaction=True)


class Undo(Exception):
    pass


def statements(work):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        work()
    words = [each["sql"].split()[0] for each in captured.captured_queries]
    return [word for word in words if word not in ("BEGIN", "COMMIT")]


def test_without_a_query_there_is_no_savepoint(sent):
    """A model with a serializer of its own: it may query, and does not."""

    order = Order.objects.create()

    def save():
        with transaction.atomic():
            order.save()

    assert statements(save) == ["UPDATE"]
    assert len(sent.drafts) == 2


def test_the_first_query_makes_one():
    """One, however many queries there are; it ends with the block."""

    def work():
        with transaction.atomic(), SavepointIfQueried("default"):
            Tag.objects.create(name="a")
            Tag.objects.create(name="b")

    assert statements(work).count("SAVEPOINT") == 1
    assert Tag.objects.count() == 2


def test_what_a_failed_block_wrote_is_undone():
    """And what the transaction wrote before is not."""
    with transaction.atomic():
        Tag.objects.create(name="before")
        with pytest.raises(Undo), SavepointIfQueried("default"):
            Tag.objects.create(name="inside")
            raise Undo
        Tag.objects.create(name="after")

    assert [tag.name for tag in Tag.objects.order_by("pk")] == ["before", "after"]


def test_an_error_of_the_database_does_not_end_the_transaction():
    """PostgreSQL would refuse everything that follows."""
    with transaction.atomic():
        with pytest.raises(DatabaseError), SavepointIfQueried("default"):
            connection.cursor().execute("SELECT * FROM no_such_table")
        Tag.objects.create(name="after")

    assert Tag.objects.get().name == "after"


def test_a_block_inside_whose_begin_is_the_first_query_nests():
    """Its savepoint is inside the one that it causes."""
    with transaction.atomic():
        with pytest.raises(Undo), SavepointIfQueried("default"):
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Tag.objects.create(name="inner")
                raise ZeroDivisionError
            Tag.objects.create(name="outer")
            publish("news", "of the block")
            raise Undo
        Tag.objects.create(name="after")

    assert [tag.name for tag in Tag.objects.order_by("pk")] == ["after"]


def test_a_failure_that_asked_nothing_leaves_the_transaction_whole():
    """Though Django marks it as one to be rolled back."""
    with transaction.atomic():
        Tag.objects.create(name="before")
        with (
            pytest.raises(Undo),
            SavepointIfQueried("default"),
            transaction.mark_for_rollback_on_error("default"),
        ):
            raise Undo

    assert Tag.objects.count() == 1


def test_a_block_inside_that_has_no_savepoint_nests():
    """As of `bulk_create` and `delete`: what fails in it ends no more than the block."""
    with transaction.atomic():
        Tag.objects.create(name="before")
        with (
            pytest.raises(DatabaseError),
            SavepointIfQueried("default"),
            transaction.atomic(savepoint=False),
        ):
            Tag.objects.create(name="inside")
            connection.cursor().execute("SELECT * FROM no_such_table")
        Tag.objects.create(name="after")

    assert [tag.name for tag in Tag.objects.order_by("pk")] == ["before", "after"]


def test_a_failure_that_is_caught_before_it_asks_leaves_the_transaction_whole():
    """A serializer may try a write whose value is not even sent."""
    with transaction.atomic():
        with SavepointIfQueried("default"), pytest.raises(ValueError):
            Tag(pk="no number").save(force_insert=True)
        Tag.objects.create(name="after")

    assert Tag.objects.get().name == "after"


def test_a_failure_that_is_caught_refuses_queries_of_the_block_only():
    """As it does inside of a savepoint that is there from the beginning."""
    with transaction.atomic():
        with SavepointIfQueried("default"):
            with pytest.raises(ValueError):
                Tag(pk="no number").save(force_insert=True)
            with pytest.raises(transaction.TransactionManagementError):
                Tag.objects.count()
        Tag.objects.create(name="after")

    assert Tag.objects.get().name == "after"
