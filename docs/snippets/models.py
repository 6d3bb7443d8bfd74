from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models.signals import m2m_changed
from django.dispatch import receiver

from redis_pubsub.models import PublishableModel


class Correspondence(PublishableModel):
    participants = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="correspondences"
    )


@receiver(m2m_changed, sender=Correspondence.participants.through)
def participants_changed(instance, action, reverse, pk_set, **kwargs):
    if reverse or action not in ("post_add", "post_remove"):
        return
    users = get_user_model().objects.filter(pk__in=pk_set)
    if action == "post_add":
        instance.subscribe(*users)
    else:
        for user in users:
            instance.channel.unsubscribe(user)


class Message(PublishableModel):
    PUBLISH_ON_CREATE = True

    correspondence = models.ForeignKey(
        Correspondence, on_delete=models.CASCADE, related_name="messages"
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sent_messages"
    )
    body = models.TextField()

    def get_channel(self):
        return self.correspondence.channel


class OldName(PublishableModel):
    channel = models.ForeignKey(
        "redis_pubsub.Channel",
        on_delete=models.CASCADE,
        related_name="publishable_%(class)ss",  # as in 1.0
    )
