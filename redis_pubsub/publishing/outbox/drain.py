"""Publishing what waits in a partition: the one way out of the outbox.

Commits, relays and commands all come through here. A pass takes the partition, reads from
the lowest id on, publishes in one round trip, deletes what Redis acknowledged and gives the
partition back. Then it looks again: whoever committed meanwhile found the partition taken
and left, relying on that look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.db.models import F
from django.utils import timezone

from ... import codec
from ...broker import BlockingBroker, FencedOff, Outcome, Refused, Sent
from ...exceptions import InvalidPayload, MalformedMessage
from ...messages import Draft
from ...metrics import Metrics
from ...models.outbox import OutboxMessage
from .locks import Hold, LockLost, hold
from .rows import delete, is_any_new, is_full, read_batch

logger = logging.getLogger("redis_pubsub.outbox")

ATTEMPTS = 5
"""How often Redis may refuse a message before it is parked."""
RETRY_FIRST_S = 1.0
"""How long a refused message waits; twice as long after each further refusal."""
_ERROR_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Drained:
    """What a visit to a partition came to.

    Attributes:
        published: Messages that Redis has now.
        is_taken: Somebody else publishes the partition.
        is_left: Messages may be left.
    """

    published: int = 0
    is_taken: bool = False
    is_left: bool = False


@dataclass(slots=True)
class _Sorted:
    """A batch, sorted by what became of it."""

    done: list[int] = field(default_factory=list)
    published: int = 0
    found: int = 0
    dropped: int = 0
    refused: dict[str, list[int]] = field(default_factory=dict)
    spoiled: dict[str, list[int]] = field(default_factory=dict)


class Drain:
    """Publishes partitions.

    Args:
        broker: Where to.
        metrics: Where it is counted.
        message_bytes: Largest payload that may be sent now.
        is_stopping: Asked between two passes.
    """

    def __init__(
        self,
        broker: BlockingBroker,
        metrics: Metrics,
        message_bytes: int,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._message_bytes = message_bytes
        self._is_stopping = is_stopping

    def __call__(self, using: str, partition: int, *, for_s: float) -> Drained:
        """Publish in the order of ids until nothing is left or the time is over.

        Raises:
            BrokerUnavailable: Redis does not answer; everything not acknowledged stays.
            DatabaseError: The database does not.
        """
        end = time.monotonic() + for_s
        published, idle_passes, is_backlog = 0, 0, False
        while True:
            with hold(using, partition) as held:
                if held is None:
                    return Drained(published, is_taken=True)
                batch = self._next(held, is_backlog)
                settled = self._publish(held, batch) if batch else _Sorted()
                if batch:
                    self._settle(held, batch, settled)
            is_backlog = is_full(batch)
            published += settled.published
            idle_passes = 0 if settled.done or settled.spoiled else idle_passes + 1
            # Nobody else will: those who committed while this held the partition left.
            if not is_any_new(using, partition):
                return Drained(published, is_left=bool(settled.refused))
            if idle_passes == 2 or time.monotonic() > end or self._is_stopping():
                return Drained(published, is_left=True)

    def _next(self, held: Hold, is_backlog: bool) -> list[OutboxMessage]:
        """The messages to publish now: without channels whose first one has to wait."""
        blocked: set[str] = set()
        while True:
            batch = read_batch(
                held.using, held.partition, besides=blocked, is_backlog=is_backlog
            )
            waiting = {row.channel for row in batch if row.attempts and not _is_due(row)}
            if not waiting:
                return batch
            # What comes in their place may have to wait as well.
            blocked |= waiting

    def _publish(self, held: Hold, batch: Sequence[OutboxMessage]) -> _Sorted:
        settled = _Sorted()
        rows: list[tuple[OutboxMessage, Draft]] = []
        probed: set[str] = set()
        for row in batch:
            if row.channel in probed:
                continue
            try:
                draft = row.draft()
                codec.check_size(draft.raw, self._message_bytes)
            except (MalformedMessage, InvalidPayload) as error:
                settled.spoiled.setdefault(str(error), []).append(row.pk)
                continue
            rows.append((row, draft))
            if row.attempts:
                # What stands behind a refused message must not pass it: it goes alone.
                probed.add(row.channel)
        for (row, _), outcome in zip(rows, self._send(held, rows), strict=True):
            _sort(row, outcome, settled)
        return settled

    def _send(
        self, held: Hold, rows: Sequence[tuple[OutboxMessage, Draft]]
    ) -> list[Outcome]:
        if not rows:
            return []
        drafts = [(row.pk, draft) for row, draft in rows]
        outcomes = self._broker.publish_fenced(drafts, held.fence)
        seen = max((o.seen for o in outcomes if isinstance(o, FencedOff)), default=None)
        if seen is None:
            return outcomes
        # Either this process lost the partition and does not know yet, or somebody else did
        # in the middle of a pass. The database knows: whoever can still write comes again.
        self._metrics.count("outbox_fenced_off")
        held.climb(seen)
        late = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, FencedOff)]
        again = self._broker.publish_fenced([drafts[i] for i in late], held.fence)
        if any(isinstance(outcome, FencedOff) for outcome in again):
            raise LockLost(f"partition {held.partition} of {held.using!r}")
        for i, outcome in zip(late, again, strict=True):
            outcomes[i] = outcome
        return outcomes

    def _settle(self, held: Hold, batch: Sequence[OutboxMessage], settled: _Sorted) -> None:
        """Write down what became of a batch."""
        rows = OutboxMessage.objects.using(held.using)
        now = timezone.now()
        given_up = 0
        with held.settling():
            if settled.done:
                delete(held.using, settled.done)
            for error, pks in settled.refused.items():
                failed = rows.filter(pk__in=pks)
                failed.update(
                    attempts=F("attempts") + 1, failed_at=now, last_error=error[:_ERROR_MAX]
                )
                given_up += failed.filter(attempts__gte=ATTEMPTS).update(parked=True)
            for error, pks in settled.spoiled.items():
                given_up += rows.filter(pk__in=pks).update(
                    parked=True, failed_at=now, last_error=error[:_ERROR_MAX]
                )
        self._count(settled, given_up)
        for error, pks in (*settled.refused.items(), *settled.spoiled.items()):
            channel = next(row.channel for row in batch if row.pk == pks[0])
            logger.error(
                "%d message(s) in the outbox cannot be published, the first on %r: %s",
                len(pks),
                channel,
                error,
            )

    def _count(self, settled: _Sorted, given_up: int) -> None:
        refused = sum(map(len, settled.refused.values()))
        self._metrics.count("outbox_published", settled.published)
        self._metrics.count("outbox_found", settled.found)
        self._metrics.count("outbox_outdated", settled.dropped)
        self._metrics.count("outbox_refused", refused)
        self._metrics.count("outbox_parked", given_up)


def _is_due(row: OutboxMessage) -> bool:
    if row.failed_at is None:
        return True
    wait = timedelta(seconds=RETRY_FIRST_S * 2 ** (row.attempts - 1))
    return timezone.now() >= row.failed_at + wait


def _sort(row: OutboxMessage, outcome: Outcome, settled: _Sorted) -> None:
    if isinstance(outcome, Sent):
        settled.done.append(row.pk)
        if outcome.position is None:
            settled.dropped += 1
        elif outcome.was_there:
            settled.found += 1
        else:
            settled.published += 1
    elif isinstance(outcome, Refused):
        settled.refused.setdefault(outcome.error, []).append(row.pk)
