"""Pages of this package: ``path("pubsub/", include("redis_pubsub.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "redis_pubsub"
urlpatterns = [path("ticket/", views.ticket, name="ticket")]
