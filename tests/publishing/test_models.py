"""Models that publish themselves: when, once, and what."""

from __future__ import annotations

import json

import pytest
from django.core import serializers
from django.db import NotSupportedError, connection, models, transaction
from django.db.models.signals import post_save
from django.test.utils import isolate_apps

from redis_pubsub.broker import Read
from redis_pubsub.models import Channel, PublishableModel, Subscription
from redis_pubsub.publishing.publisher import publisher
from tests.shop.models import (
    LoudMessage,
    Message,
    OnCreate,
    OnUpdate,
    Order,
    Parcel,
    ProxyMessage,
    Silent,
    Tag,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Silent, []),
        (OnCreate, ["create"]),
        (OnUpdate, ["update"]),
        (Message, ["create", "update"]),
    ],
)
def test_the_flags_say_when(sent, model, expected):
    """P-1: four combinations of create and update."""
    row = model.objects.create()
    row.save()

    assert sent.events == expected


def test_create_then_update_publish_fresh_values_in_order(sent):
    """P-1 (1.0's test_post_save_signals): each save once, the values as saved."""
    message = Message.objects.create(body="first")
    message.body = "second"
    message.save()

    assert [json.loads(body)[0]["fields"]["body"] for body in sent.bodies] == [
        "first",
        "second",
    ]
    assert {draft.channel for draft in sent.drafts} == {message.channel.name}


def test_a_delete_is_published_with_its_data(sent):
    """B8: the payload is the row that was, its key included."""
    message = Message.objects.create(body="gone")
    pk = message.pk
    sent.batches.clear()

    message.delete()

    (draft,) = sent.drafts
    assert draft.header.event == "delete" and draft.header.pk == str(pk)
    assert json.loads(draft.raw)[0]["pk"] == pk


def test_a_delete_along_with_the_channel_is_published(sent):
    """The channel's row may go in the same cascade."""
    message = Message.objects.create()
    sent.batches.clear()

    message.channel.delete()

    assert sent.events == ["delete"]
    assert sent.drafts[0].channel.startswith("shop.message:")


@pytest.mark.parametrize("model", [Message, LoudMessage, ProxyMessage])
def test_each_save_and_delete_publishes_once_however_deep_the_class(sent, model):
    """B11: grandchildren and proxies are connected, and never twice."""
    row = model.objects.create(body="x")
    row.save()
    row.delete()

    assert sent.events == ["create", "update", "delete"]
    assert {draft.header.model for draft in sent.drafts} == {model._meta.label_lower}


def test_an_inherited_table_sends_its_parents_fields(sent):
    """A row is one thing to a client, however many tables it has."""
    LoudMessage.objects.create(body="x", volume=3)

    fields = json.loads(sent.bodies[0])[0]["fields"]
    assert fields["body"] == "x" and fields["volume"] == 3


def test_a_queryset_delete_of_inherited_rows_publishes_each_once(sent):
    """Also when a whole queryset goes."""
    LoudMessage.objects.create(body="a")
    LoudMessage.objects.create(body="b")
    sent.batches.clear()

    LoudMessage.objects.all().delete()

    assert sent.events == ["delete", "delete"]


@isolate_apps("tests.shop")
def test_a_class_declared_late_is_connected(sent):
    """B11: a model that appears after the apps are ready publishes too."""

    class Late(PublishableModel):
        PUBLISH_ON_CREATE = True

        class Meta:
            app_label = "shop"

    assert post_save.has_listeners(Late)


def test_fixtures_are_silent(sent):
    """P-17, B10: loaddata announces nothing."""
    message = Message.objects.create(body="x")
    document = serializers.serialize("json", [message])
    sent.batches.clear()

    for restored in serializers.deserialize("json", document):
        restored.save()

    assert sent.batches == []


def test_a_rolled_back_save_is_silent(sent):
    """P-17, B6."""
    with transaction.atomic():
        Message.objects.create()
        transaction.set_rollback(True)

    assert sent.batches == []


def test_many_to_many_changes_publish_once_per_transaction_and_row(sent):
    """The last state is sent, whichever side it was changed from."""
    message, other = Message.objects.create(), Message.objects.create()
    tags = [Tag.objects.create(name=name) for name in "abc"]
    sent.batches.clear()

    with transaction.atomic():
        message.tags.add(tags[0])
        message.tags.add(tags[1])
        message.tags.remove(tags[0])
    assert sent.events == ["update"]
    assert json.loads(sent.bodies[0])[0]["fields"]["tags"] == [tags[1].pk]

    sent.batches.clear()
    with transaction.atomic():
        tags[2].messages.add(message, other)
    assert {draft.header.pk for draft in sent.drafts} == {str(message.pk), str(other.pk)}

    sent.batches.clear()
    with transaction.atomic():
        tags[2].messages.clear()
    assert {draft.header.pk for draft in sent.drafts} == {str(message.pk), str(other.pk)}


def test_only_named_fields_are_sent(sent):
    """PUBLISH_FIELDS; UUID keys and decimals are fine (P9)."""
    parcel = Parcel.objects.create(label="fragile", weight="2.50")

    (document,) = json.loads(sent.bodies[0])
    assert document == {
        "model": "shop.parcel",
        "pk": str(parcel.pk),
        "fields": {"label": "fragile"},
    }


def test_a_rest_framework_serializer_renders_the_payload(sent):
    """PUBLISH_SERIALIZER, by dotted path."""
    order = Order.objects.create(status="paid")

    assert json.loads(sent.bodies[0]) == {"id": order.pk, "status": "paid", "version": 1}


def test_an_older_version_is_not_sent(sent):
    """PUBLISH_VERSION: two writers that race never take a client back."""
    order = Order.objects.create(status="new", version=5)
    stale = Order.objects.get(pk=order.pk)
    order.status, order.version = "paid", 6
    order.save()

    stale.publish()

    history = publisher.broker().read([Read(order.channel.name)])[0]
    assert [m.payload["status"] for m in history.messages] == ["new", "paid"]


def test_a_serializer_that_raises_does_not_break_the_write(sent, monkeypatch, caplog):
    """The transaction lives, the row is saved, the log has the traceback."""

    def serialize(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM no_such_table")

    monkeypatch.setattr(Message, "serialize", serialize)
    before = publisher.metrics["publish_failed"]

    with transaction.atomic():
        message = Message.objects.create(body="kept")
        assert Message.objects.filter(pk=message.pk).exists()

    assert Message.objects.filter(pk=message.pk).exists()
    assert sent.batches == [] and publisher.metrics["publish_failed"] == before + 1
    assert "no_such_table" in caplog.text


def test_a_row_without_a_channel_gets_one_of_its_own(sent):
    """Made at the first save, with a name nobody can guess."""
    first, second = Message.objects.create(), Message.objects.create()
    parcel = Parcel.objects.create()

    assert first.channel != second.channel
    assert first.channel.name.startswith("shop.message:")
    assert parcel.channel.name == f"shop.parcel:{parcel.pk}"
    name = first.channel.name
    first.save()
    assert Message.objects.get(pk=first.pk).channel.name == name


def test_a_row_may_use_another_objects_channel(sent):
    """1.0's README: `self.channel = self.correspondence.channel`."""
    channel = Channel.objects.create(name="ada:messages")

    Message.objects.create(channel=channel)

    assert sent.drafts[0].channel == "ada:messages"


def test_bulk_create_publishes_each_row(sent):
    """B8: one round trip for all; `publish=False` opts out."""
    rows = Message.objects.bulk_create([Message(body=str(n)) for n in range(5)])
    Message.objects.bulk_create([Message()], publish=False)

    assert sent.events == ["create"] * 5 and len(sent.batches) == 1
    assert [draft.header.pk for draft in sent.drafts] == [str(row.pk) for row in rows]


def test_bulk_create_without_known_keys_says_so(sent, monkeypatch):
    """A database that returns no keys, or ignored conflicts."""
    with pytest.raises(NotSupportedError, match="publish=False"):
        Message.objects.bulk_create([Message()], ignore_conflicts=True)
    monkeypatch.setattr(
        type(connection.features), "can_return_rows_from_bulk_insert", False
    )
    with pytest.raises(NotSupportedError, match="publish=False"):
        Message.objects.bulk_create([Message()])

    assert Message.objects.count() == 0


def test_a_row_that_was_not_written_is_not_published(sent):
    """I2: where conflicts are ignored, known keys do not say which rows are new."""
    (row,) = Message.objects.bulk_create([Message(body="first")], publish=False)
    twin = Message(pk=row.pk, body="never written")

    with pytest.raises(NotSupportedError, match="which of these rows were written"):
        Message.objects.bulk_create([twin], ignore_conflicts=True)
    Message.objects.bulk_create([twin], ignore_conflicts=True, publish=False)

    assert not sent.drafts and Message.objects.get().body == "first"


def test_bulk_updates_publish_what_they_changed(sent):
    """`update()` and `bulk_update()` send the rows as they are afterwards."""
    rows = Message.objects.bulk_create(
        [Message(body=str(n)) for n in range(3)], publish=False
    )

    assert Message.objects.filter(pk__in=[rows[0].pk, rows[1].pk]).update(body="new") == 2
    assert [json.loads(body)[0]["fields"]["body"] for body in sent.bodies] == ["new"] * 2

    sent.batches.clear()
    rows[2].body = "newer"
    Message.objects.bulk_update([rows[2]], ["body"])
    assert [json.loads(body)[0]["fields"]["body"] for body in sent.bodies] == ["newer"]

    sent.batches.clear()
    Message.objects.update(body="quiet", publish=False)
    Message.objects.bulk_update(rows, ["body"], publish=False)
    Message.objects.all().delete(publish=False)
    assert sent.batches == []


def test_an_update_is_chunked_and_constant_in_queries(sent, django_assert_max_num_queries):
    """Keys once, rows and their relations once per 1,000: however many there are."""
    Message.objects.bulk_create([Message() for _ in range(100)], publish=False)
    with django_assert_max_num_queries(9):
        Message.objects.update(body="x")

    assert len(sent.drafts) == 100 and len(sent.batches) == 1


def test_publish_can_be_called_by_hand_and_without_waiting(sent):
    """P7: `instance.publish()`, any event word."""
    row = Silent.objects.create()

    row.publish()
    row.publish("archived")

    assert sent.events == ["update", "archived"]


async def test_coroutines_have_twins(site, django_user_model):
    """`apublish`, `asubscribe`, `aunsubscribe`, `asave`."""
    user = await django_user_model.objects.acreate(username="ada")
    row = await Silent.objects.acreate()

    await row.apublish()
    subscription = await row.channel.asubscribe(user)
    await row.channel.apublish(user)

    assert isinstance(subscription, Subscription) and subscription.active
    assert await row.channel.aunsubscribe(user) is True
    assert await row.channel.aunsubscribe(user) is False


def test_two_apps_may_have_a_model_of_the_same_name():
    """B26: the related name carries the app's label."""
    name = Message._meta.get_field("channel").remote_field.related_name
    assert name == "publishable_shop_messages"


@isolate_apps("tests.shop")
def test_a_custom_primary_key_column_is_fine(sent):
    """P9: any primary key type serializes."""

    class Coded(PublishableModel):
        code = models.CharField(max_length=10, primary_key=True)

        class Meta:
            app_label = "shop"

    row = Coded(code="a/b", channel=Channel(pk=1))
    assert json.loads(row.serialize())[0]["pk"] == "a/b"
