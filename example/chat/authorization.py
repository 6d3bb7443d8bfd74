"""Who may do what on which channel: asked for everything that a client names itself, at
the live endpoint and over the "all subscriptions" socket."""

from __future__ import annotations

from typing import Any

from .models import Correspondence

TYPING = "typing:"
"""Before a correspondence's channel: where its pages tell each other who is typing."""


def may(*, user: Any, channel: str, action: str, **kwargs: Any) -> bool | None:
    """Participants may hear, see who is there, and say that they are typing.

    Args:
        user: Who asks; ``None`` if nobody is logged in.
        channel: The channel's name, as the client wrote it.
        action: ``"subscribe"``, ``"publish"``, ``"presence"`` or ``"history"``.

    Returns:
        ``None`` for channels that are not the chat's, as a user's own one: the package's
        rules decide.
    """
    if channel.startswith(TYPING):
        correspondence, actions = channel.removeprefix(TYPING), {"subscribe", "publish"}
    elif channel.startswith(f"{Correspondence._meta.label_lower}:"):
        # Not "publish": messages come from the view that checks and saves them.
        correspondence, actions = channel, {"subscribe", "presence", "history"}
    else:
        return None
    if user is None or action not in actions:
        return False
    rows = Correspondence.objects.filter(channel__name=correspondence)
    return rows.filter(participants=user).exists()
