"""The work itself: run by ``manage.py pubsub_worker``. It knows how far it is, and of no
page."""

from __future__ import annotations

from collections import Counter

from django.contrib.auth import get_user_model

from redis_pubsub import consumer
from redis_pubsub.progress import Progress

from ..chat.models import Correspondence, Message

TOPIC = "import"


@consumer("import_letters")
def import_letters(
    correspondence: int, author: int, letters: list[str], after: int
) -> None:
    """Save letters one by one: each shows up on the pages that are open, and the bar moves,
    for the author and nobody else.

    Args:
        correspondence: Primary key.
        author: Primary key.
        letters: What to save, in this order.
        after: Primary key of the newest message at the time of the wish.
    """
    row = Correspondence.objects.select_related("channel").get(pk=correspondence)
    user = get_user_model().objects.get(pk=author)
    # A worker may be killed in the middle. Another one then begins anew, and leaves out
    # what is there already.
    there = row.messages.filter(author=user, pk__gt=after)
    saved = Counter(there.values_list("body", flat=True))
    with Progress.for_user(user, TOPIC, len(letters), "Importing letters") as bar:
        for body in letters:
            if saved[body]:
                saved[body] -= 1
            else:
                Message.objects.create(correspondence=row, author=user, body=body)
            bar.tick()
