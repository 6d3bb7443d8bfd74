"""Rows that are sent to their channel's group after the commit, as Channels' docs do it."""

from __future__ import annotations

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import models, transaction


class Channel(models.Model):
    name = models.CharField(max_length=100, unique=True)


class Row(models.Model):
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE)
    key = models.CharField(max_length=32)
    n = models.IntegerField()
    body = models.TextField()


def channel(name: str) -> Channel:
    return Channel.objects.get_or_create(name=name)[0]


def save(rows: list[Row]) -> None:
    for row in rows:
        row.save()
        _send(row)


def save_in_bulk(rows: list[Row]) -> None:
    for row in Row.objects.bulk_create(rows):
        _send(row)


def _send(row: Row) -> None:
    message = {"type": "row", "key": row.key, "n": row.n, "channel": row.channel.name}
    group = row.channel.name.replace(":", ".")

    def send() -> None:
        async_to_sync(get_channel_layer().group_send)(group, message)

    # A save must not fail because of Redis.
    transaction.on_commit(send, robust=True)
