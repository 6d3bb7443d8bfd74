"""Right after a commit: have published what it wrote, if Redis is there.

By the process's courier, off the way of whoever saves; in tests and at the end of a process
by the thread itself.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from django.db import transaction

from ...conf import get_config
from ...exceptions import BrokerUnavailable
from ...messages import Draft
from ...metrics import Occasionally
from ..publisher import publisher
from ..under_test import is_under_test
from .courier import Courier
from .drain import Drain
from .locks import LockLost
from .rows import discard, partition_of

logger = logging.getLogger("redis_pubsub.outbox")

COMMIT_S = 0.25
"""How long a committing process goes on with what others left; the relay does the rest."""

_may_log = Occasionally()


def deliver(drafts: Sequence[Draft], using: str) -> None:
    """Have the partitions of messages published whose rows were just committed.

    Never raises, and waits for nobody: what does not go out now is the relay's.
    """
    if publisher.is_diverted:
        publisher.send(drafts)
        discard(drafts, using)
        return
    partitions = sorted({partition_of(draft.channel) for draft in drafts})
    # In a transaction that goes on, a test's, nobody else sees the rows.
    is_open = transaction.get_connection(using).in_atomic_block
    if is_open or is_under_test() or not courier.wake(using, partitions):
        for partition in partitions:
            visit(using, partition)


def visit(using: str, partition: int) -> None:
    """Publish a partition in this thread; what goes wrong is logged and counted."""
    if publisher.is_held_off:
        return
    try:
        drain()(using, partition, for_s=COMMIT_S)
    except BrokerUnavailable as error:
        note_outage(error)
    except LockLost:
        pass
    except Exception:
        publisher.metrics.count("outbox_errors")
        logger.exception("publishing from the outbox failed; the relay tries again")


def drain() -> Drain:
    """A drain to the process's publisher."""
    limit = get_config().limits.message_bytes
    return Drain(
        publisher.broker(), publisher.metrics, limit, lambda: publisher.is_held_off
    )


def note_outage(error: BrokerUnavailable) -> None:
    """Redis is away: leave it alone for a moment; nothing is lost."""
    publisher.hold_off()
    publisher.metrics.count("outbox_postponed")
    if _may_log("outage"):
        logger.warning("messages wait in the outbox: %s", error)


courier = Courier(visit)
"""This process's."""
