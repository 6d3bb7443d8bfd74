"""Correspondences, and the messages that are published on their channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from redis_pubsub.models import PublishableModel

if TYPE_CHECKING:
    from redis_pubsub.messages import Message as Publication
    from redis_pubsub.models import Channel

BODY_MAX = 4_000
LATEST = 50
"""Messages that a page shows, and loads anew if it missed more than is kept."""


class Correspondence(PublishableModel):
    """Some people writing to each other. Silent itself: it has the channel on which its
    messages are published, and whoever participates is subscribed to it (see
    ``participants.py``)."""

    subject = models.CharField(max_length=120)
    participants = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="correspondences"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.subject

    def get_absolute_url(self) -> str:
        return reverse("correspondence", args=[self.pk])


class Message(PublishableModel):
    """What somebody wrote, heard by all participants as soon as it is committed."""

    PUBLISH_ON_CREATE = True

    correspondence = models.ForeignKey(
        Correspondence, on_delete=models.CASCADE, related_name="messages"
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sent_messages"
    )
    body = models.TextField(max_length=BODY_MAX)
    sent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.author}: {self.body[:40]}"

    def get_channel(self) -> Channel:
        return self.correspondence.channel

    def serialize(self) -> dict[str, Any]:
        """What the pages get: ready to be shown, so that they ask for nothing more."""
        return {
            "id": self.pk,
            "author": {"id": self.author_id, "name": name_of(self.author)},
            "body": self.body,
            "sent_at": self.sent_at.isoformat(),
        }

    @classmethod
    def from_publication(cls, publication: Publication) -> Self:
        """For callbacks: the row, with what they read of it, in one query."""
        rows = cls.objects.select_related("author", "correspondence")
        return rows.get(pk=publication.pk)


def name_of(user: Any) -> str:
    """What a user is called on the pages."""
    return user.get_full_name() or user.get_username()
