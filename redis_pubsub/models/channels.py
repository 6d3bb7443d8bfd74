"""Channels and who subscribes to them, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, router

from ..exceptions import InvalidChannelName
from ..hooks import hooks
from ..messages import UPDATE, Message, Position, check_channel_name
from ..options import CHANNEL_NAME_MAX
from ..querysets import SubscriptionRows

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ..publishing.present import PresentClient, PresentUser
    from ..readers import ChannelReader, SubscriptionManager


def validate_channel_name(name: str) -> None:
    """`check_channel_name` as a form and admin want it.

    Raises:
        ValidationError: It is not a channel's name.
    """
    try:
        check_channel_name(name)
    except InvalidChannelName as error:
        raise ValidationError(str(error), code="invalid") from None


class Channel(models.Model):
    """A named thing that clients subscribe to and models are published on.

    It knows neither: many models may share a channel, so a callback must be ready for
    any of them.
    """

    name = models.CharField(
        max_length=CHANNEL_NAME_MAX, unique=True, validators=[validate_channel_name]
    )
    datetime_created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row.

        Raises:
            ValidationError: The name is empty, too long or has control characters.
        """
        validate_channel_name(self.name)
        super().save(*args, **kwargs)

    @property
    def active(self) -> bool:
        """Whether anybody has an active subscription. One query."""
        return self.subscribers.filter(active=True).exists()

    def subscribe(self, subscriber: AbstractBaseUser) -> Subscription:
        """Give a user an active subscription; writes nothing if there is one."""
        subscription: Subscription
        subscription, _ = Subscription.objects.get_or_create(
            subscriber=subscriber, channel=self
        )
        if not subscription.active:
            subscription.active = True
            subscription.save(update_fields=["active"])
        return subscription

    def subscribe_all(self, subscribers: Iterable[AbstractBaseUser]) -> None:
        """Give many users active subscriptions, in a constant number of queries."""
        wanted = {user.pk for user in subscribers}
        rows = _committed().filter(channel=self, subscriber__in=wanted)
        known = set(rows.values_list("subscriber_id", flat=True))
        rows.filter(active=False).update(active=True)
        Subscription.objects.bulk_create(
            [Subscription(channel=self, subscriber_id=pk) for pk in sorted(wanted - known)],
            ignore_conflicts=True,
        )

    def unsubscribe(self, subscriber: AbstractBaseUser) -> bool:
        """End a user's subscription: live sockets stop hearing it in under a second.

        Returns:
            Whether there was an active one.
        """
        mine = _committed().filter(subscriber=subscriber, channel=self, active=True)
        subscription = mine.first()
        if subscription is None:
            return False
        subscription.active = False
        subscription.save(update_fields=["active"])
        return True

    def publish(
        self,
        instance: models.Model,
        *,
        event: str = UPDATE,
        fields: Iterable[str] | None = None,
    ) -> None:
        """Publish any model's instance here, after the transaction commits.

        Args:
            instance: A `PublishableModel` is published as it serializes itself; of
                another model only label and primary key, unless fields are named.
            event: What clients are told happened.
            fields: Names of the fields to send.

        Raises:
            RuntimeError: Called on a running event loop; use `apublish`.
        """
        hooks.publish_instance(
            self.name, instance, event=event, fields=fields, using=_database_of(instance)
        )

    @overload
    def presence(self, by: Literal["client"] = "client") -> list[PresentClient]: ...

    @overload
    def presence(self, by: Literal["user"]) -> list[PresentUser]: ...

    def presence(
        self, by: Literal["client", "user"] = "client"
    ) -> list[PresentClient] | list[PresentUser]:
        """Who is on the channel now, in all processes; see `redis_pubsub.presence`.

        Raises:
            BrokerUnavailable: Redis did not answer.
            RuntimeError: Called on a running event loop; use `apresence`.
        """
        present: list[PresentClient] | list[PresentUser] = hooks.presence(self.name, by=by)
        return present

    @overload
    async def apresence(self, by: Literal["client"] = "client") -> list[PresentClient]: ...

    @overload
    async def apresence(self, by: Literal["user"]) -> list[PresentUser]: ...

    async def apresence(
        self, by: Literal["client", "user"] = "client"
    ) -> list[PresentClient] | list[PresentUser]:
        """`presence` for coroutines."""
        present: list[PresentClient] | list[PresentUser] = await hooks.apresence(
            self.name, by=by
        )
        return present

    def history(
        self,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
        **who: Any,
    ) -> list[Message]:
        """What the channel keeps; see `redis_pubsub.history`."""
        found: list[Message] = hooks.history(
            self.name, limit=limit, since=since, reverse=reverse, **who
        )
        return found

    async def ahistory(
        self,
        *,
        limit: int = 100,
        since: Position | None = None,
        reverse: bool = False,
        **who: Any,
    ) -> list[Message]:
        """`history` for coroutines."""
        found: list[Message] = await hooks.ahistory(
            self.name, limit=limit, since=since, reverse=reverse, **who
        )
        return found

    def last(self) -> Message | None:
        """The last message that the channel keeps; see `redis_pubsub.last`."""
        found: Message | None = hooks.last(self.name)
        return found

    async def alast(self) -> Message | None:
        """`last` for coroutines."""
        found: Message | None = await hooks.alast(self.name)
        return found

    async def asubscribe(self, subscriber: AbstractBaseUser) -> Subscription:
        """`subscribe` for coroutines."""
        return await sync_to_async(self.subscribe)(subscriber)

    async def aunsubscribe(self, subscriber: AbstractBaseUser) -> bool:
        """`unsubscribe` for coroutines."""
        return await sync_to_async(self.unsubscribe)(subscriber)

    async def apublish(
        self,
        instance: models.Model,
        *,
        event: str = UPDATE,
        fields: Iterable[str] | None = None,
    ) -> None:
        """`publish` for coroutines."""
        await sync_to_async(self.publish)(instance, event=event, fields=fields)


class Subscription(models.Model):
    """A user's stored wish to hear a channel.

    ``active=False`` turns it off: nothing is delivered, on any process, from within a
    second after it was saved.
    """

    subscriber = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="subscriptions"
    )
    channel = models.ForeignKey(
        Channel, on_delete=models.CASCADE, related_name="subscribers"
    )
    active = models.BooleanField(default=True)

    objects = SubscriptionRows()

    class Meta:
        unique_together = [("subscriber", "channel")]

    def __str__(self) -> str:
        state = "" if self.active else " (inactive)"
        return f"user {self.subscriber_id} on channel {self.channel_id}{state}"

    def get_reader(self, manager: SubscriptionManager | None = None) -> ChannelReader:
        """A reader of this subscription's channel, for this subscriber.

        Args:
            manager: Who owns the reader. Without one, the reader gets a manager of
                its own when it first listens.
        """
        reader: ChannelReader = hooks.make_reader(self, manager)
        return reader


def _committed() -> models.QuerySet[Any]:
    """Subscriptions where they are written: a replica may not know yet."""
    rows: models.QuerySet[Any] = Subscription.objects.using(
        router.db_for_write(Subscription)
    )
    return rows


def _database_of(instance: models.Model) -> str:
    """Where saving it would write: not always where it was read."""
    # Its class rather than its type: ``request.user`` is something lazy.
    return router.db_for_write(instance.__class__, instance=instance)
