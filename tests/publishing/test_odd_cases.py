"""Rows and transactions that are not everyday's."""

from __future__ import annotations

import datetime
import json

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.db.models.signals import m2m_changed

from redis_pubsub import publish
from redis_pubsub.messages import Message as Envelope
from redis_pubsub.messages import Position, new_header
from redis_pubsub.models import Channel
from redis_pubsub.models.publishable import from_payload
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.readers.values import own_copy
from redis_pubsub.receipts import Receipt, record
from tests.shop.models import Message, Parcel, Person

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def fields(body):
    return json.loads(body)[0]["fields"]


def test_an_expression_is_published_as_what_it_came_to(sent):
    """`F("visits") + 1`: clients get the number, from save() and from bulk_update()."""
    person = Person.objects.create(visits=1)
    sent.batches.clear()

    person.visits = F("visits") + 1
    person.save()
    person = Person.objects.get(pk=person.pk)
    person.visits = F("visits") + 1
    Person.objects.bulk_update([person], ["visits"])

    assert [fields(body)["visits"] for body in sent.bodies] == [2, 3]


def test_times_keep_their_microseconds(sent):
    """An instance made of a payload may be saved again: nothing is cut."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
    person = Person.objects.create(seen_at=moment)
    sent.batches.clear()
    person.save()

    again = from_payload(Person, json.loads(sent.bodies[0]))

    assert again.seen_at == moment


def test_a_copy_for_a_callback_has_its_bytes():
    """BinaryField holds a memoryview, which a copy must not lose."""
    person = Person(name="ada", picture=memoryview(b"png"))

    copy = own_copy(person)

    assert bytes(copy.picture) == b"png"
    copy.name = "bob"
    assert person.name == "ada"


def test_manual_transactions_are_waited_for(sent):
    """`set_autocommit(False)`: sent with the commit, forgotten with a rollback."""
    transaction.set_autocommit(False)
    try:
        publish("news", "undone")
        transaction.rollback()
        publish("news", "kept")
        assert sent.batches == []
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert sent.bodies == ['"kept"']
    assert connection.run_on_commit == []


def test_relations_to_the_same_model_publish_the_rows_that_changed(sent):
    """`b.followers.clear()` changes who followed b, not whom b follows."""
    a, b, c = (Person.objects.create(name=name) for name in "abc")
    a.follows.add(b)
    b.follows.add(c)
    sent.batches.clear()

    with transaction.atomic():
        b.followers.clear()

    assert [draft.header.pk for draft in sent.drafts] == [str(a.pk)]


def test_symmetrical_relations_publish_both_sides(sent):
    """Friendship is of two; ending all of one's friendships changes all the friends."""
    a, b, c = (Person.objects.create(name=name) for name in "abc")
    sent.batches.clear()

    with transaction.atomic():
        a.friends.add(b, c)
    assert {draft.header.pk for draft in sent.drafts} == {str(p.pk) for p in (a, b, c)}

    sent.batches.clear()
    with transaction.atomic():
        a.friends.clear()
    assert {draft.header.pk for draft in sent.drafts} == {str(p.pk) for p in (a, b, c)}
    assert all(fields(body)["friends"] == [] for body in sent.bodies)


def test_a_row_that_cannot_be_serialized_costs_the_bulk_nothing(sent, monkeypatch, caplog):
    """The write stands, the other rows are published, the log has the traceback."""
    serialize = Message.serialize

    def picky(self):
        if self.body == "bad":
            raise RuntimeError("my serializer")
        return serialize(self)

    monkeypatch.setattr(Message, "serialize", picky)
    before = publisher.metrics["publish_failed"]

    Message.objects.bulk_create([Message(body=body) for body in ("a", "bad", "b")])

    assert Message.objects.count() == 3
    assert [fields(body)["body"] for body in sent.bodies] == ["a", "b"]
    assert publisher.metrics["publish_failed"] == before + 1
    assert "my serializer" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {"author": ["natural", "key"]}},
        {"pk": [1]},
        {"fields": {"channel": {"a": 1}}},
        {"model": "auth.user"},
    ],
)
def test_another_form_of_payload_is_fetched_instead(change):
    """Django's outer form with other contents: the row is read, nothing raises."""
    message = Message.objects.create(body="kept")
    document = json.loads(message.serialize())[0] | change
    envelope = Envelope(
        "news",
        new_header("update", model="shop.message", pk=str(message.pk)),
        json.dumps([document]).encode(),
        Position("", 0),
    )

    assert Message.from_publication(envelope).body == "kept"


def test_a_row_saved_to_another_database_has_its_channel_there(sent):
    """`save(using=…)` without a channel."""
    message = Message(body="x")

    message.save(using="other")

    assert Channel.objects.using("other").filter(name=message.channel.name).exists()
    assert not Channel.objects.using("default").exists()
    assert sent.events == ["create"]
    connections["other"].close()


def test_a_deleted_user_costs_the_others_no_receipt(user, other_user):
    """Receipts of one batch stand or fall one by one."""
    parcel = Parcel.objects.create()
    receipts = [
        Receipt(parcel.channel.name, who.pk, "shop.parcel", str(parcel.pk))
        for who in (user, other_user)
    ]
    other_user.delete()

    record(receipts)

    assert user.received_publications.count() == 1


def test_somebody_elses_relation_is_nobodys_business(sent):
    """Packages send `m2m_changed` for relations that are no field's."""
    message = Message.objects.create()

    m2m_changed.send(
        sender=Person,
        instance=message,
        action="post_add",
        reverse=False,
        model=Person,
        pk_set={1},
        using="default",
    )

    assert sent.events == ["create"]
