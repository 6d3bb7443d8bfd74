"""Who may subscribe to which channel, asked by the "all subscriptions" socket."""

from __future__ import annotations

from typing import Any

from .models import Correspondence


def may_subscribe(*, user: Any, channel: str, **kwargs: Any) -> bool:
    """Participants may; they can turn a correspondence off and on again."""
    if user is None:
        return False
    return Correspondence.objects.filter(channel__name=channel, participants=user).exists()
