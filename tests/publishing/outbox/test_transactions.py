"""With the outbox on: what is committed is kept, what is not leaves no trace."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import TestCase, override_settings

from redis_pubsub import apublish, publish
from redis_pubsub.broker import Read
from redis_pubsub.conf import get_config
from redis_pubsub.models import Channel, OutboxMessage
from redis_pubsub.options import ChannelOptions
from redis_pubsub.publishing.control import disconnect
from redis_pubsub.publishing.drafts import drafts_of
from redis_pubsub.publishing.outbox import deliver, state
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.publishing.transactions import all_after_commit
from redis_pubsub.testing import captured_messages, send_pending
from tests.publishing.test_transactions import undone
from tests.shop.models import LoudMessage, Message, OnCreate, Silent, Tag

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("outbox_on"),
]


@pytest.fixture
def no_delivery(monkeypatch):
    """What is committed stays in the table."""
    monkeypatch.setattr(
        "redis_pubsub.publishing.transactions.deliver", lambda drafts, using: None
    )


def heard(channel="news"):
    (history,) = publisher.broker().read([Read(channel)])
    return [message.payload for message in history.messages]


def kept(using="default"):
    rows = OutboxMessage.objects.using(using).order_by("id")
    return [row.draft().raw.decode().strip('"') for row in rows]


def test_a_committed_message_is_out_and_its_row_gone(counted):
    """The everyday case: published by the process that committed."""
    with transaction.atomic():
        publish("news", "a")
        publish("news", "b")
        assert kept() == ["a", "b"] and heard() == []

    assert heard() == ["a", "b"] and kept() == []
    assert counted("outbox_published") == 2


def test_the_row_is_of_the_transaction(no_delivery):
    """A rollback, or a savepoint's, takes it along; nothing else does."""
    with transaction.atomic():
        publish("news", "a")
        undone(lambda: publish("news", "b"))
        publish("news", "c")
    undone(lambda: publish("news", "d"))

    assert kept() == ["a", "c"]


def test_a_save_and_its_message_commit_together(no_delivery, monkeypatch):
    """Also in autocommit, where Django's save() has no transaction of its own."""
    Message.objects.create(body="a")
    LoudMessage.objects.create(body="b")
    assert OutboxMessage.objects.count() == 2

    def fail(*args):
        raise DatabaseError("no room for the message")

    monkeypatch.setattr("redis_pubsub.publishing.transactions.write", fail)
    with pytest.raises(DatabaseError, match="no room"):
        Message.objects.create(body="c")

    assert not Message.objects.filter(body="c").exists()


def test_deletes_and_relations_are_kept_too(no_delivery):
    """A changed relation is one message per transaction, the last state of it."""
    message = Message.objects.create()
    tags = [Tag.objects.create(name=name) for name in "ab"]
    OutboxMessage.objects.all().delete()

    with transaction.atomic():
        message.tags.add(tags[0])
        message.tags.add(tags[1])
        undone(lambda: message.tags.clear())
    (row,) = OutboxMessage.objects.all()
    assert row.draft().header.event == "update"
    assert str(tags[1].pk).encode() in row.draft().raw
    message.delete()

    assert [row.draft().header.event for row in OutboxMessage.objects.order_by("id")] == [
        "update",
        "delete",
    ]


def test_a_bulk_operation_is_one_insert(no_delivery, django_assert_num_queries):
    """Savepoint, rows, messages, release: however many there are."""
    channel = Channel.objects.create(name="bulk")
    rows = [OnCreate(channel=channel) for _ in range(50)]

    with transaction.atomic(), django_assert_num_queries(4):
        OnCreate.objects.bulk_create(rows)
    assert OutboxMessage.objects.count() == 50

    messages = Message.objects.bulk_create(
        [Message(channel=channel) for _ in range(5)], publish=False
    )
    Message.objects.bulk_update(messages, ["body"])
    Message.objects.filter(channel=channel).update(body="x")

    assert OutboxMessage.objects.count() == 60


@pytest.mark.parametrize(
    ("setting", "own", "expected"),
    [(True, None, 1), (True, False, 0), (False, None, 0), (False, True, 1)],
)
def test_a_model_may_say_otherwise(
    no_delivery, settings, site, monkeypatch, setting, own, expected
):
    """`PUBLISH_OUTBOX`: True, False, or None for the setting."""
    settings.REDIS_PUBSUB = site | {"outbox": setting}
    monkeypatch.setattr(OnCreate, "PUBLISH_OUTBOX", own)

    OnCreate.objects.create()

    assert OutboxMessage.objects.count() == expected


def test_what_is_of_no_use_later_is_not_kept(no_delivery):
    """`history=False`, and what processes tell each other, go straight to Redis."""
    with transaction.atomic():
        publish("news", "typing", history=False)
        disconnect(client="c")
        Silent.objects.create()

    assert kept() == []


def test_a_save_never_fails_because_of_redis(settings, caplog, counted):
    """The row stays, and is out when Redis is back."""
    right = settings.REDIS_PUBSUB
    settings.REDIS_PUBSUB = right | {"url": "unix:///nowhere/redis.sock"}
    message = Message.objects.create(body="x")
    publish("news", "a")
    publish("news", "b", strict=True)
    assert state().depth == 3 and state().oldest_s >= 0
    assert counted("outbox_postponed") == 1

    settings.REDIS_PUBSUB = right
    publisher.close()
    publish("news", "c")

    assert heard() == ["a", "b", "c"]
    assert Message.objects.filter(pk=message.pk).exists()


@pytest.mark.may_block(reason="waits for threads")
def test_a_coroutine_publishes_through_the_outbox_too(no_delivery):
    """Values and rows; the answer is that they are kept. `history=False` and
    `outbox=False` go past it."""

    async def publish_all():
        message = await Message.objects.acreate(body="x")
        await OutboxMessage.objects.all().adelete()
        kept = [await apublish("news", "a"), await apublish("news", message)]
        direct = await apublish("news", "b", outbox=False)
        typing = await apublish("news", "c", history=False)
        return kept, direct, typing

    kept_positions, direct, typing = asyncio.run(publish_all())

    assert kept_positions == [None, None] and OutboxMessage.objects.count() == 2
    assert kept()[0] == "a" and '"body":"x"' in kept()[1]
    assert direct.offset == 1 and typing.offset == 0
    assert heard() == ["b"]


@pytest.mark.may_block(reason="waits for threads")
def test_a_coroutine_does_not_overtake_what_was_committed(no_delivery, monkeypatch):
    """It comes behind older messages of the outbox."""
    publish("news", "a")
    monkeypatch.setattr("redis_pubsub.publishing.transactions.deliver", deliver.deliver)

    asyncio.run(apublish("news", "b"))

    assert heard() == ["a", "b"]


def test_each_database_keeps_its_own(no_delivery):
    """A row lives where its transaction does."""
    with transaction.atomic(using="other"):
        publish("news", "there", using="other")
        publish("news", "here")

    assert kept("other") == ["there"] and kept("default") == ["here"]
    assert state().depth == 2 and state("other").depth == 1


def test_a_database_without_the_table_publishes_directly(settings, no_delivery):
    """Routers that keep the tables out of a database."""
    settings.DATABASE_ROUTERS = ["tests.publishing.outbox.test_transactions.OnlyDefault"]

    publish("news", "a", using="other")

    assert heard() == ["a"]


class OnlyDefault:
    def allow_migrate(self, db, app_label, **hints):
        return db == "default"


def test_an_unforeseen_error_is_logged_and_the_row_stays(monkeypatch, caplog, counted):
    """Whatever happens after the commit, the commit has happened."""

    def fail():
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(deliver, "drain", fail)

    publish("news", "a")

    assert kept() == ["a"] and counted("outbox_errors") == 1
    assert "unforeseen" in caplog.text


def test_messages_are_captured_without_redis():
    """As without the outbox: they are in the list, and nowhere else."""
    with captured_messages() as messages:
        publish("news", "a")
        with transaction.atomic():
            publish("news", "b")

    assert [message.payload for message in messages] == ["a", "b"]
    assert kept() == [] and heard() == []


@override_settings()
class InATestCase(TestCase):
    """Everything inside one transaction that never commits."""

    def test_captured_messages_are_those_of_the_block(self):
        """What a savepoint undid is not there; nothing stays in the table."""
        publish("news", "before")
        with captured_messages() as messages:
            undone(lambda: publish("news", "undone"))
            Message.objects.create(body="x")

        self.assertEqual([message.event for message in messages], ["create"])
        self.assertEqual(kept(), ["before"])

    def test_pending_messages_can_be_sent(self):
        """Through the drain, in the test's own transaction."""
        publish("news", "a")
        self.assertEqual(heard(), [])

        send_pending()

        self.assertEqual(heard(), ["a"])
        self.assertEqual(kept(), [])

    def test_hooks_that_are_captured_send(self):
        """`captureOnCommitCallbacks`."""
        with self.captureOnCommitCallbacks(execute=True):
            publish("news", "a")

        self.assertEqual(heard(), ["a"])


def test_a_transaction_by_hand_is_one_too():
    """`set_autocommit(False)`."""
    transaction.set_autocommit(False)
    try:
        publish("news", "undone")
        transaction.rollback()
        publish("news", "a")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert heard() == ["a"]
    assert not connection.in_atomic_block


def test_messages_that_cannot_all_be_kept_are_none_of_them(no_delivery, monkeypatch):
    """Outside a transaction too: whoever is told that it failed may try again."""
    monkeypatch.setattr(type(connection.features), "max_query_params", 20, raising=False)
    drafts = drafts_of(get_config(), [f"c{n}" for n in range(5)], 1)
    nothing = ChannelOptions(history_size=None)
    drafts[-1] = dataclasses.replace(drafts[-1], options=nothing)

    with pytest.raises(DatabaseError):
        all_after_commit(drafts, "default", outbox=True)

    assert not OutboxMessage.objects.exists()
