"""Rows by plan: the same JSON as Django's serializer makes, or none."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal

import pytest
from django.core import serializers
from django.db import models
from django.test.utils import isolate_apps

from redis_pubsub import codec
from redis_pubsub.models.plans import _plan, plain_json
from redis_pubsub.models.publishable import _Encoder
from tests.shop.models import LoudMessage, Message, OnCreate, Parcel


def by_django(instance, names=None):
    text = serializers.serialize("json", [instance], fields=names, cls=_Encoder)
    return codec.one_line(text)


class Reversed(models.CharField):
    """A field with its own idea of text."""

    def value_to_string(self, obj):
        return self.value_from_object(obj)[::-1]


with isolate_apps("tests.shop"):

    class Everything(models.Model):
        text = models.TextField(null=True)
        number = models.IntegerField(null=True)
        real = models.FloatField(null=True)
        price = models.DecimalField(max_digits=9, decimal_places=2, null=True)
        yes = models.BooleanField(null=True)
        at = models.DateTimeField(null=True)
        day = models.DateField(null=True)
        time = models.TimeField(null=True)
        lasts = models.DurationField(null=True)
        key = models.UUIDField(null=True)
        raw = models.BinaryField(null=True)
        tree = models.JSONField(null=True)
        odd = Reversed(max_length=9, default="abc")
        address = models.GenericIPAddressField(null=True)
        parent = models.ForeignKey("self", models.CASCADE, null=True)

        class Meta:
            app_label = "shop"


VALUES = [
    {},
    {"pk": 7, "parent_id": 3},
    *({"text": text} for text in ("", "é日🙂", '"\\/', "\u2028\u2029<&>")),
    {"text": "".join(map(chr, range(0x100)))},
    *({"number": n} for n in (0, -1, 2**63, -(2**63), 2**64, 10**30, True)),
    *({"real": x} for x in (0.0, -0.0, 1e16, 1e-7, 0.1, 1.5e300, 5e-324, 3)),
    *({"price": Decimal(x)} for x in ("1.10", "1E+3", "-0.00")),
    {"yes": True, "day": datetime.date(2020, 2, 29), "time": datetime.time(1, 2, 3, 4)},
    {"at": datetime.datetime(2020, 1, 2, 3, 4, 5, 678901)},
    {"at": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)},
    {"lasts": datetime.timedelta(days=1, seconds=2), "key": uuid.uuid4()},
    {"raw": b"\x00\xff", "address": "::1"},
    *({"tree": tree} for tree in ({"a": [1, None]}, "text", 1.5, [], {"1": 2})),
]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_a_plan_writes_what_django_writes(values):
    """To the byte, or leaves it to Django."""
    row = Everything(**values)

    plain = plain_json(row, None)

    assert plain in (None, by_django(row))


def test_everyday_values_are_planned():
    """A plan that leaves everything to Django would be none."""
    rows = [Everything(**values) for values in VALUES]

    planned = [plain_json(row, None) is not None for row in rows]

    assert sum(planned) >= len(VALUES) - 6
    assert json.loads(plain_json(Everything(text="x"), None))[0]["fields"]["odd"] == "cba"


@pytest.mark.parametrize("names", [["text"], ["parent", "id", "number"], ["nothing"], []])
def test_names_choose_fields_as_django_does(names):
    """A relation by its own name; the key and names that are not there do nothing."""
    row = Everything(pk=1, text="x", parent_id=2)

    assert plain_json(row, names) == by_django(row, names)


def test_what_is_no_plain_table_is_left_to_django():
    """Relations to many, inherited tables."""
    assert plain_json(Message(pk=1), None) is None
    assert plain_json(Message(pk=1, body="x"), ["body"]) is not None
    assert plain_json(LoudMessage(pk=1), ["body"]) is None
    assert plain_json(Parcel(label="x"), ["label"]) is not None


def test_a_sites_own_serializer_is_used(settings):
    """`SERIALIZATION_MODULES`."""
    _plan.cache_clear()
    settings.SERIALIZATION_MODULES = {"json": "tests.publishing.own_serializer"}
    serializers._serializers = {}
    try:
        assert plain_json(OnCreate(pk=1), None) is None
    finally:
        serializers._serializers = {}
        _plan.cache_clear()


def test_text_that_is_no_unicode_is_left_to_django():
    """Which refuses it with its own words."""
    assert plain_json(Everything(text="\ud800"), None) is None
