from django.conf import settings
from django.db import models

from redis_pubsub.models import Channel, PublishableModel


class Room(models.Model):
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="rooms")

    @property
    def channel_name(self):
        return f"room:{self.pk}"

    def state(self):
        """What a page shows: rows by primary key."""
        return {post.pk: post.serialize() for post in self.posts.order_by("pk")}


class Post(PublishableModel):
    PUBLISH_ON_CREATE = PUBLISH_ON_UPDATE = PUBLISH_ON_DELETE = True

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="posts")
    text = models.CharField(max_length=500)

    def get_channel(self):
        return Channel.objects.get_or_create(name=self.room.channel_name)[0]

    def serialize(self):
        return {"text": self.text}
