"""What leaves the publisher of models that not everybody sees alike: always a snapshot."""

from __future__ import annotations

import pytest
from django.db import transaction

from redis_pubsub.audiences import is_audience_channel
from redis_pubsub.conf import get_config
from redis_pubsub.contrib.live.protocol import forms
from redis_pubsub.messages import SNAPSHOT, Header, Position, message_of
from redis_pubsub.models import Channel, OutboxMessage
from redis_pubsub.models.snapshots import restored, snapshot_of
from redis_pubsub.publishing.drafts import draft_of_instance
from redis_pubsub.testing import captured_messages
from tests.shop.models import Document, LoudMessage, Message, Note, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture
def channel():
    return Channel.objects.create(name="board")


def rows(channel):
    return [Document(channel=channel, title=title, notes="n") for title in "ab"]


@pytest.mark.parametrize(
    ("change", "events"),
    [
        (lambda row: row.save(), ["update"]),
        (lambda row: row.delete(), ["delete"]),
        (lambda row: row.tags.add(Tag.objects.create(name="t")), ["update"]),
        (lambda row: Document.objects.update(title="b"), ["update"]),
        (lambda row: Document.objects.bulk_update([row], ["title"]), ["update"]),
        (lambda row: Document.objects.all().delete(), ["delete"]),
        (lambda row: Document.objects.bulk_create(rows(row.channel)), ["create"] * 2),
        (lambda row: row.publish("shout"), ["shout"]),
    ],
)
def test_every_way_to_publish_stores_a_snapshot(channel, change, events):
    """Saves, deletes, relations, bulk operations, and by hand."""
    with captured_messages():
        row = Document.objects.create(channel=channel, title="a", notes="n")

    with captured_messages() as messages:
        change(row)

    assert [message.event for message in messages] == events
    for message in messages:
        assert message.header.audience == SNAPSHOT
        assert message.payload[0]["fields"]["notes"] == "n"


def test_the_outbox_keeps_that_it_is_a_snapshot(site, settings, channel):
    """What is relayed later is sealed as what was sent at once."""
    settings.REDIS_PUBSUB = site | {"outbox": True}

    with transaction.atomic():
        Document.objects.create(channel=channel, title="a")
        draft = OutboxMessage.objects.get().draft()

    assert draft.header.audience == SNAPSHOT
    sealed = message_of(draft.channel, draft.header, draft.raw, Position("", 0))
    assert sealed.raw == b"null"


def test_fields_cannot_go_past_a_rendering(channel):
    """`fields=` names what to send, `serialize_for` hides it from some."""
    row = Document(channel=channel, pk=1)

    with pytest.raises(TypeError, match="leave it out"):
        draft_of_instance(get_config(), "board", row, event="x", fields=["notes"])


def test_a_snapshot_holds_relations_and_inherited_tables(channel):
    """An instance of it is the row as it was, without a query."""
    tag = Tag.objects.create(name="t")
    row = LoudMessage.objects.create(channel=channel, body="hi", volume=12)
    row.tags.add(tag)

    import json

    payload = json.loads(snapshot_of(row))
    LoudMessage.objects.all().delete()
    again = restored(LoudMessage, payload)

    assert (again.pk, again.id, again.body, again.volume) == (row.pk, row.id, "hi", 12)
    assert [each.pk for each in again.tags.all()] == [tag.pk]
    assert json.loads(again.serialize()) == payload


def test_which_channels_are_for_judged_messages(settings, site):
    """A rule, the models it names, or a model's own channel."""
    settings.REDIS_PUBSUB = site | {
        "channels": {"a:*": {"audience": True}, "b": {"models": ["shop.Note"]}}
    }
    config = get_config()

    names = ["a:1", "b", "shop.document:7", "shop.message:7", "shop", "c", "no.such:1"]
    strict = [name for name in names if is_audience_channel(config, name)]

    assert strict == ["a:1", "b", "shop.document:7"]


FORMS = [
    forms.WEBSOCKET,
    forms.STREAM,
    forms.SSE,
    forms.STREAM_UNCHUNKED,
    forms.SSE_UNCHUNKED,
    forms.websocket_protobuf(),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_carries_views_and_never_the_snapshot(form):
    """JSON and Protobuf; sockets, event streams, chunked or not."""
    header = Header(id="1", model="shop.document", audience=SNAPSHOT)
    judged = message_of("board", header, b'["secret"]', Position("e", 3))

    assert b"secret" not in form.publication(judged)
    assert b"secret" not in form.codec.publication(judged)
    seen = form.publication(judged.view(b'{"for":"me"}'))
    assert b'{"for":"me"}' in seen and b"secret" not in seen and b"snapshot" not in seen


def test_models_without_hooks_are_sent_as_ever(channel, user):
    """The byte path stays: what the publisher encodes is what clients get."""
    with captured_messages() as messages:
        Message.objects.create(channel=channel, body="hi")
        Note.objects.create(channel=channel, owner=user)

    assert [message.header.audience for message in messages] == ["", SNAPSHOT]
