"""The work itself. It knows how far it is, and of no page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection

from redis_pubsub.progress import Progress, progress

from ..chat.models import Correspondence, Message

TOPIC = "import"


def begin(user: Any) -> Progress:
    """Show to a user, and to nobody else, that his import begins."""
    bar = Progress.for_user(user, TOPIC, label="Importing letters")
    bar.start()
    return bar


def import_letters(
    correspondence: Correspondence, author: Any, letters: Sequence[str], bar: Progress
) -> None:
    """Save letters one by one, in a thread of its own: each shows up on the pages that are
    open, and the bar moves."""
    try:
        for body in progress(letters, channel=bar):
            Message.objects.create(correspondence=correspondence, author=author, body=body)
    finally:
        connection.close()
