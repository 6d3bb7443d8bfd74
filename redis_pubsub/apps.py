"""The Django app: connects the floors that must not know each other."""

from __future__ import annotations

from django.apps import AppConfig


class RedisPubsubConfig(AppConfig):
    """Live Django models over WebSockets."""

    name = "redis_pubsub"
    verbose_name = "PubSub Models"
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        from . import checks, publishing, readers
        from .publishing import revocation, signals

        publishing.connect()
        readers.connect()
        signals.connect()
        revocation.connect()
        checks.register()
