"""Models of the test site, one for each kind of publishing."""

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from redis_pubsub.models import PublishableModel
from redis_pubsub.querysets import PublishableModelManager


class Tag(models.Model):
    name = models.CharField(max_length=50)


class Silent(PublishableModel):
    """Publishes only when told to."""

    name = models.CharField(max_length=50, default="")


class OnCreate(PublishableModel):
    PUBLISH_ON_CREATE = True
    name = models.CharField(max_length=50, default="")


class OnUpdate(PublishableModel):
    PUBLISH_ON_UPDATE = True
    name = models.CharField(max_length=50, default="")


class Message(PublishableModel):
    """Publishes everything."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_ON_DELETE = True

    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+"
    )
    body = models.TextField(default="")
    tags = models.ManyToManyField(Tag, related_name="messages")


class LoudMessage(Message):
    """A table of its own below another: each save and delete publishes once."""

    volume = models.IntegerField(default=11)


class ProxyMessage(Message):
    class Meta:
        proxy = True


class Parcel(PublishableModel):
    """A UUID key, some fields only, delivery tracked."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_FIELDS = ["label"]
    TRACK_DELIVERY = True

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    label = models.CharField(max_length=50, default="")
    weight = models.DecimalField(max_digits=8, decimal_places=2, default=1)


class Order(PublishableModel):
    """Rendered by a REST framework serializer, versioned."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_SERIALIZER = "tests.shop.serializers.OrderSerializer"
    PUBLISH_VERSION = "version"

    status = models.CharField(max_length=20, default="new")
    version = models.IntegerField(default=1)


class Person(PublishableModel):
    """Related to its own kind, both ways; has bytes and exact times."""

    PUBLISH_ON_UPDATE = True

    name = models.CharField(max_length=50, default="")
    visits = models.IntegerField(default=0)
    picture = models.BinaryField(default=b"")
    seen_at = models.DateTimeField(null=True)
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    friends = models.ManyToManyField("self")


class SentLetters(PublishableModelManager):  # type: ignore[type-arg]
    """Withdrawn letters are nobody's any more."""

    def get_queryset(self) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = super().get_queryset()
        return rows.filter(is_withdrawn=False)


class Letter(PublishableModel):
    """Delivery tracked, by the moment it was written."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_ON_DELETE = True
    TRACK_DELIVERY = True
    TRACK_DELIVERY_BY = "written_at"

    body = models.CharField(max_length=50, default="")
    is_withdrawn = models.BooleanField(default=False)
    written_at = models.DateTimeField(default=timezone.now, null=True)

    objects: ClassVar[Any] = SentLetters()


class Postcard(Letter):
    """A table of its own below another, tracked too."""

    picture = models.CharField(max_length=50, default="")


class Document(PublishableModel):
    """Not everybody sees the same of it, and some nothing: staff all of it, others what is
    public, without the notes."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_ON_DELETE = True

    title = models.CharField(max_length=50, default="")
    notes = models.CharField(max_length=50, default="")
    is_public = models.BooleanField(default=True)
    tags = models.ManyToManyField(Tag)

    @classmethod
    def audience_key(cls, user: Any) -> str:
        return "staff" if user.is_staff else "public"

    @classmethod
    def can_view(cls, user: Any, instance: "Document") -> bool:
        return user.is_staff or instance.is_public

    def serialize_for(self, audience: str) -> dict[str, Any]:
        payload: dict[str, Any] = {"title": self.title}
        if audience == "staff":
            payload["notes"] = self.notes
            payload["tags"] = [tag.pk for tag in self.tags.all()]
        return payload


class Note(PublishableModel):
    """Seen by its owner alone: nothing but ``can_view`` is said."""

    PUBLISH_ON_CREATE = True
    PUBLISH_ON_UPDATE = True
    PUBLISH_ON_DELETE = True
    TRACK_DELIVERY = True

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    text = models.CharField(max_length=50, default="")

    @classmethod
    def can_view(cls, user: Any, instance: "Note") -> bool:
        return bool(instance.owner_id == user.pk)
