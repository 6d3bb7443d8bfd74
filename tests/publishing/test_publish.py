"""`publish` and `apublish`: any value, from anywhere, and what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import logging
import uuid

import pytest
from django.utils.translation import gettext_lazy

from redis_pubsub import apublish, publish
from redis_pubsub.exceptions import (
    BrokerUnavailable,
    InvalidChannelName,
    InvalidPayload,
    PayloadTooLarge,
)
from redis_pubsub.publishing.publisher import publisher
from tests.shop.models import Message, Tag

pytestmark = pytest.mark.django_db(transaction=True)


@dataclasses.dataclass
class Point:
    x: int


def test_any_json_able_value_can_be_sent(sent):
    """P-2, W-2: text, numbers, dicts, lists, dates, ids, dataclasses, lazy text."""
    publish("news", {"text": "a", "lazy": gettext_lazy("b"), "n": [1, None, True]})
    publish("news", decimal.Decimal("1.50"))
    publish("news", datetime.date(2026, 1, 2))
    publish("news", uuid.UUID(int=1))
    publish("news", Point(1))
    publish("news", "plain")

    assert sent.bodies == [
        '{"text":"a","lazy":"b","n":[1,null,true]}',
        '"1.50"',
        '"2026-01-02"',
        '"00000000-0000-0000-0000-000000000001"',
        '{"x":1}',
        '"plain"',
    ]


def test_any_model_can_be_published(sent):
    """P-2: a model that is not publishable sends label and key, and fields by name only."""
    channel = Message.objects.create(body="x").channel
    tag = Tag.objects.create(name="secret")
    sent.batches.clear()

    channel.publish(tag)
    channel.publish(tag, fields=["name"])

    assert sent.bodies == [
        f'[{{"model":"shop.tag","pk":{tag.pk},"fields":{{}}}}]',
        f'[{{"model":"shop.tag","pk":{tag.pk},"fields":{{"name":"secret"}}}}]',
    ]


def test_a_channel_may_be_given_as_its_row(sent):
    """Name or row, the same channel."""
    channel = Message.objects.create().channel
    sent.batches.clear()

    publish(channel, 1, event="ping", exclude="me")

    (draft,) = sent.drafts
    assert draft.channel == channel.name
    assert (draft.header.event, draft.header.exclude) == ("ping", "me")


async def test_apublish_returns_the_position(site, settings):
    """P-2: a coroutine publishes, and knows where the message stands."""
    settings.REDIS_PUBSUB = site | {"channels": {"kept*": {"history_size": 10}}}

    first = await apublish("kept", 1)
    second = await apublish("kept", 2)
    raw = await apublish("raw", 3)

    assert (first.offset, second.offset, raw.offset) == (1, 2, 0)


async def test_publish_on_the_loop_names_apublish(site):
    """Blocking the event loop is refused before it happens."""
    with pytest.raises(RuntimeError, match="await apublish"):
        publish("news", 1)


@pytest.mark.parametrize(
    ("channel", "payload", "error"),
    [
        ("news", object(), TypeError),
        ("news", {"tag": Tag(name="x")}, TypeError),
        ("", 1, InvalidChannelName),
        ("x" * 256, 1, InvalidChannelName),
        ("a\x00b", 1, InvalidChannelName),
        ("news", "x" * 1_048_577, PayloadTooLarge),
    ],
)
def test_what_cannot_be_sent_is_refused_at_the_call(sent, channel, payload, error):
    """Not JSON-able, too large, no name: says what and the limit; nothing is sent."""
    with pytest.raises(error):
        publish(channel, payload)

    assert sent.batches == []


def test_the_size_limit_is_a_setting(sent, settings, site):
    """`limits["message_bytes"]`, and the error says how large it was."""
    settings.REDIS_PUBSUB = site | {"limits": {"message_bytes": 10}}

    with pytest.raises(PayloadTooLarge, match=r"22 bytes.*limit is 10") as caught:
        publish("news", "x" * 20)

    assert isinstance(caught.value, InvalidPayload)


def test_a_redis_that_is_down_does_not_break_the_write(settings, caplog):
    """P-18, B7: the save succeeds; the loss is logged with its traceback and counted."""
    settings.REDIS_PUBSUB = {"url": "unix:///nowhere/redis.sock"}
    before = publisher.metrics["publish_failed"]

    message = Message.objects.create(body="kept")
    publish("news", 1)

    assert Message.objects.get(pk=message.pk).body == "kept"
    assert publisher.metrics["publish_failed"] == before + 2
    assert "not published" in caplog.text and caplog.records[-1].exc_info


def test_strict_raises_instead(settings):
    """Who must know asks for it."""
    settings.REDIS_PUBSUB = {"url": "unix:///nowhere/redis.sock"}

    with pytest.raises(BrokerUnavailable):
        publish("news", 1, strict=True)
    with pytest.raises(BrokerUnavailable):
        asyncio.run(apublish("news", 1, strict=True))
    assert asyncio.run(apublish("news", 1)) is None


def test_changed_settings_open_another_publisher(sent, settings, site):
    """B23: nothing is frozen at import; another prefix is another publisher."""
    before = publisher.broker()

    settings.REDIS_PUBSUB = site | {"prefix": "elsewhere"}

    assert publisher.broker() is not before


def test_memory_without_sockets_warns_once(settings, caplog):
    """A process that serves nobody says that nobody can hear it."""
    settings.REDIS_PUBSUB = {"url": f"memory://{uuid.uuid4()}"}

    with caplog.at_level(logging.WARNING):
        publish("news", 1)
        publish("news", 2)

    assert len([r for r in caplog.records if "nobody can hear it" in r.message]) == 1


@pytest.mark.may_block(reason="forks")
def test_a_forked_child_opens_its_own_connection(sent, site):
    """gunicorn --preload: parent and child both publish, neither gets the other's reply."""
    import os

    publish("news", "parent")
    pid = os.fork()
    if pid == 0:
        try:
            publish("news", "child", strict=True)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(pid, 0)

    publish("news", "parent again", strict=True)
    assert status == 0
