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


class Report(PublishableModel):
    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_ON_DELETE = True

    title = models.CharField(max_length=200)
    salary = models.DecimalField(max_digits=9, decimal_places=2)
    is_draft = models.BooleanField(default=False)

    @classmethod
    def audience_key(cls, user):
        return "editor" if user.has_perm("letters.change_report") else "reader"

    @classmethod
    def can_view(cls, user, instance):
        return not instance.is_draft or user.has_perm("letters.change_report")

    def serialize_for(self, audience):
        payload = {"id": self.pk, "title": self.title}
        if audience == "editor":
            payload["salary"] = self.salary
        return payload


class Diary(PublishableModel):
    PUBLISH_ON_CREATE = True

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.TextField()

    @classmethod
    def can_view(cls, user, instance):
        return instance.owner_id == user.pk
