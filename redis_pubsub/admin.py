"""Channels, subscriptions, receipts, the outbox in Django's admin; constant queries a page.

The tables can be large (a publishable row may have a channel of its own): lists are
ordered by an index, related rows come along in one query, and nothing counts a whole table
for a caption. Django imports this module only where ``django.contrib.admin`` is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import Count, Exists, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.text import Truncator

from .dead_letter_admin import DeadLetterAdmin as DeadLetterAdmin
from .models import Channel, OutboxMessage, ReceivedPublication, Subscription

if TYPE_CHECKING:
    ChannelAdminBase = admin.ModelAdmin[Channel]
    SubscriptionAdminBase = admin.ModelAdmin[Subscription]
    ReceiptAdminBase = admin.ModelAdmin[ReceivedPublication]
    OutboxAdminBase = admin.ModelAdmin[OutboxMessage]
else:
    ChannelAdminBase = SubscriptionAdminBase = admin.ModelAdmin
    ReceiptAdminBase = OutboxAdminBase = admin.ModelAdmin


def _user_and_channel_search() -> tuple[str, ...]:
    name = get_user_model().USERNAME_FIELD
    return (f"subscriber__{name}", "channel__name")


def _active_subscriptions() -> QuerySet[Any]:
    """The active subscriptions of the channel of an outer query."""
    return Subscription._base_manager.filter(channel=OuterRef("pk"), active=True)


class IsActive(admin.SimpleListFilter):
    """Channels that somebody listens to, and the others."""

    title = "active"
    parameter_name = "active"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "Yes"), ("0", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("0", "1"):
            return queryset
        is_active = Exists(_active_subscriptions())
        return queryset.filter(is_active if self.value() == "1" else ~is_active)


@admin.register(Channel)
class ChannelAdmin(ChannelAdminBase):
    list_display = ("name", "is_active", "active_subscribers", "datetime_created")
    list_filter = (IsActive, "datetime_created")
    search_fields = ("name",)
    ordering = ("name",)
    date_hierarchy = "datetime_created"
    readonly_fields = ("datetime_created",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        # A subquery, not a join: it runs for the rows of a page, not for the table.
        counts = (
            _active_subscriptions()
            .order_by()
            .values("channel")
            .annotate(number=Count("pk"))
            .values("number")
        )
        number = Coalesce(Subquery(counts, output_field=IntegerField()), 0)
        return super().get_queryset(request).annotate(active_number=number)

    @admin.display(boolean=True, description="active")
    def is_active(self, channel: Any) -> bool:
        """`Channel.active`, without its query."""
        return bool(channel.active_number)

    @admin.display(ordering="active_number", description="active subscribers")
    def active_subscribers(self, channel: Any) -> int:
        return int(channel.active_number)


@admin.register(Subscription)
class SubscriptionAdmin(SubscriptionAdminBase):
    list_display = ("id", "subscriber", "channel", "active")
    list_display_links = ("id", "subscriber")
    list_filter = ("active",)
    ordering = ("-id",)
    # The site's user model need not be registered, which autocomplete would ask for.
    raw_id_fields = ("subscriber",)
    autocomplete_fields = ("channel",)
    show_full_result_count = False
    actions = ("activate", "deactivate")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        # The manager selects the channel, and Django ignores `list_select_related` of a
        # queryset that selects anything.
        return super().get_queryset(request).select_related("subscriber", "channel")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return _user_and_channel_search()

    @admin.action(description="Activate selected subscriptions", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        self._set_active(request, queryset, True)

    @admin.action(description="Deactivate selected subscriptions", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        """Live sockets stop hearing these channels in under a second."""
        self._set_active(request, queryset, False)

    def _set_active(
        self, request: HttpRequest, queryset: QuerySet[Subscription], active: bool
    ) -> None:
        # `SubscriptionQuerySet.update` tells every serving process.
        changed = queryset.filter(active=not active).update(active=active)
        done = "activated" if active else "deactivated"
        text = f"Subscriptions {done}: {changed}."
        self.message_user(request, text, messages.SUCCESS)


@admin.register(ReceivedPublication)
class ReceivedPublicationAdmin(ReceiptAdminBase):
    """To look at only. No date hierarchy: the moment has no index, and this is the table
    that grows with every delivery."""

    list_display = (
        "id",
        "subscriber",
        "channel",
        "publication_type",
        "publication_id",
        "datetime_received",
    )
    list_select_related = ("subscriber", "channel", "publication_type")
    list_filter = ("datetime_received", "publication_type")
    ordering = ("-id",)
    show_full_result_count = False

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return (*_user_and_channel_search(), "publication_id__exact")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # Deleting stays: otherwise a user or a channel with receipts could not be deleted
    # in admin, since they go along.


@admin.register(OutboxMessage)
class OutboxMessageAdmin(OutboxAdminBase):
    """What waits for Redis, and what was given up. To look at, retry and delete."""

    list_display = ("id", "channel", "created_at", "parked", "attempts", "error")
    list_filter = ("parked",)
    search_fields = ("channel", "message_id__exact")
    ordering = ("-id",)
    show_full_result_count = False
    actions = ("retry",)
    fields = (
        *("channel", "message_id", "head", "body", "created_at"),
        *("parked", "attempts", "failed_at", "last_error"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxMessage]:
        # A page of a list does not show a hundred payloads.
        return super().get_queryset(request).defer("payload")

    @admin.display(description="error")
    def error(self, message: Any) -> str:
        return Truncator(message.last_error).chars(80)

    @admin.display(description="header")
    def head(self, message: Any) -> str:
        return bytes(message.header).decode(errors="replace")

    @admin.display(description="payload")
    def body(self, message: Any) -> str:
        text = bytes(message.payload).decode(errors="replace")
        return Truncator(text).chars(_PAYLOAD_SHOWN)

    @admin.action(description="Retry selected messages", permissions=["delete"])
    def retry(self, request: HttpRequest, queryset: QuerySet[OutboxMessage]) -> None:
        """Parked ones are taken up by the next relay, behind what went on meanwhile."""
        taken_up = OutboxMessage.objects.filter(pk__in=queryset.values("pk")).retry()
        text = f"Messages to be tried again: {taken_up}."
        self.message_user(request, text, messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


_PAYLOAD_SHOWN = 10_000
