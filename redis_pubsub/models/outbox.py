"""The outbox: messages that were committed and are not out yet, and who publishes them."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from django.db import models
from django.utils import timezone

from ..exceptions import MalformedMessage
from ..messages import Draft, Header
from ..options import CHANNEL_NAME_MAX, ChannelOptions
from ..querysets import OutboxQuerySet

PARTITIONS = 16
"""Each channel is in one partition, by its name; each is published by one at a time."""

_decode = msgspec.json.Decoder(Header).decode


class OutboxMessage(models.Model):
    """A message of a committed transaction, until Redis has it.

    Attributes:
        partition: 0 to 15, of the channel's name.
        message_id: ``Header.id``.
        header: `Header` as JSON, unsigned.
        payload: What clients get.
        version: Value of ``PUBLISH_VERSION``, if the row has one.
        attempts: How often Redis answered *this message* with an error. Redis being down
            is no attempt.
        failed_at: When it last did.
        parked: No more attempts; messages behind it went on.
    """

    id = models.BigAutoField(primary_key=True)
    partition = models.PositiveSmallIntegerField()
    channel = models.CharField(max_length=CHANNEL_NAME_MAX)
    message_id = models.CharField(max_length=64)
    header = models.BinaryField()
    payload = models.BinaryField()
    history_size = models.PositiveIntegerField(default=0)
    history_ttl_s = models.PositiveIntegerField(default=0)
    joins_history = models.BooleanField(default=False)
    version = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveIntegerField(default=0)
    failed_at = models.DateTimeField(null=True)
    last_error = models.TextField(default="")
    parked = models.BooleanField(default=False)

    objects: ClassVar[models.Manager[OutboxMessage]] = models.Manager.from_queryset(
        OutboxQuerySet
    )()

    class Meta:
        indexes = [
            models.Index(
                fields=["parked", "partition", "id"], name="redis_pubsub_outbox_order"
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id} on {self.channel}"

    def draft(self) -> Draft:
        """The message of the row.

        Raises:
            MalformedMessage: Its header cannot be read.
        """
        try:
            header = _decode(bytes(self.header))
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise MalformedMessage(f"header: {error}") from error
        return Draft(
            channel=self.channel,
            header=header,
            raw=bytes(self.payload),
            options=ChannelOptions(
                history_size=self.history_size, history_ttl_s=self.history_ttl_s
            ),
            version=self.version,
            joins_history=self.joins_history,
        )


class OutboxPartition(models.Model):
    """Who publishes a partition. Made at its first use.

    Attributes:
        id: 0 to 15.
        fence: The last fencing number that was given out.
        holder: Who has the lease, where leases are the lock; ``""`` nobody.
        expires_at: Unix time at which the lease ends.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    fence = models.BigIntegerField(default=0)
    holder = models.CharField(max_length=32, default="")
    expires_at = models.FloatField(default=0.0)
