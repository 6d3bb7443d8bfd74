"""Proof that a publication was handed to a subscriber."""

from __future__ import annotations

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from .channels import Channel


class ReceivedPublication(models.Model):
    """One publication reached one subscriber over one channel, at least once.

    Written for models with ``TRACK_DELIVERY = True`` when a callback has returned, so it
    means "handed to the socket", not "seen by the user". Any primary key type: the key
    is kept as text.
    """

    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, related_name="publications"
    )
    subscriber = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="received_publications",
    )
    datetime_received = models.DateTimeField(auto_now_add=True, editable=False)
    publication_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE)
    publication_id = models.CharField(max_length=255, null=True)  # noqa: DJ001 (1.0's rows)
    publication = GenericForeignKey("publication_type", "publication_id")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["subscriber", "publication_type", "publication_id", "channel"],
                name="redis_pubsub_one_receipt",
            )
        ]
        indexes = [
            models.Index(
                fields=["publication_type", "publication_id"],
                name="redis_pubsub_publication",
            )
        ]

    def __str__(self) -> str:
        return (
            f"publication {self.publication_type_id}/{self.publication_id} "
            f"to user {self.subscriber_id}"
        )


class ReceiptHorizon(models.Model):
    """Up to when a model's receipts may have been pruned.

    Rows made before, by their ``TRACK_DELIVERY_BY``, are owed to nobody: whether they
    were delivered is not known any more. It only moves forward.
    """

    publication_type = models.OneToOneField(
        ContentType, on_delete=models.CASCADE, related_name="+"
    )
    pruned_before = models.DateTimeField()

    def __str__(self) -> str:
        return f"receipts of {self.publication_type_id} pruned to {self.pruned_before}"
