"""One kind of row, and the two ways in which the writer saves it."""

from __future__ import annotations

from django.db import models

from redis_pubsub.models import Channel, PublishableModel


class Row(PublishableModel):
    """What is written; ``key`` is the row's own, also where a rollback frees its number."""

    PUBLISH_ON_CREATE = True

    key = models.CharField(max_length=32)
    n = models.IntegerField()
    body = models.TextField()

    def serialize(self):
        return {"key": self.key, "n": self.n, "body": self.body}


def channel(name: str) -> Channel:
    return Channel.objects.get_or_create(name=name)[0]


def save(rows: list[Row]) -> None:
    for row in rows:
        row.save()


def save_in_bulk(rows: list[Row]) -> None:
    Row.objects.bulk_create(rows)
