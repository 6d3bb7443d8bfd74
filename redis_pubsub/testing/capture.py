"""What was published: in a test case's transaction too, where nothing ever commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connections

from ..messages import Draft, Message, Position, is_reserved
from ..publishing import transactions
from ..publishing.publisher import publisher


def send_pending() -> None:
    """Send what the open transactions of this thread have published so far, as their
    commit would. In a ``TestCase`` the transaction around the test never commits."""
    for connection in connections.all(initialized_only=True):
        transactions.send_now(connection)


@contextmanager
def captured_messages() -> Iterator[list[Message]]:
    """Collect what the block publishes instead of sending it.

    Works with and without an open transaction: what a rolled-back savepoint published is
    not there, and in a ``TestCase`` the rest is there when the block ends::

        with captured_messages() as messages:
            Message.objects.create(body="hello")
        assert [m.event for m in messages] == ["create"]
    """
    captured: list[Message] = []

    def keep(drafts: Sequence[Draft]) -> None:
        captured.extend(
            Message(draft.channel, draft.header, draft.raw, Position("", 0))
            for draft in drafts
            if not is_reserved(draft.channel)
        )

    with publisher.diverted(keep):
        before = [*transactions.waiting()]
        yield captured
        for connection in connections.all(initialized_only=True):
            transactions.send_now(connection, besides=before)
