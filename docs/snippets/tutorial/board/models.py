from django.db import models

from redis_pubsub.models import Channel, PublishableModel


class Note(PublishableModel):
    PUBLISH_ON_CREATE = True

    text = models.CharField(max_length=200)

    def get_channel(self):
        return Channel.objects.get_or_create(name="board")[0]

    def serialize(self):
        return {"id": self.pk, "text": self.text}
