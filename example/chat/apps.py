"""The chat app."""

from __future__ import annotations

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "example.chat"

    def ready(self) -> None:
        from . import participants

        participants.connect()
