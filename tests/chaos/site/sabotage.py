"""Mechanisms switched off, and deaths at a chosen place. Only for this site.

``CHAOS_OFF``: names of mechanisms, by commas: ``repair`` (holes are neither noticed nor
filled), ``lock`` (two relays may publish one partition), ``fence`` (and nobody notices),
``generation`` (nobody knows which Redis followed which), ``cursor`` (a relay reads on from
where it was), ``dedupe`` (each attempt is a new message),
``commit`` and ``serving`` (committing processes, and serving ones, leave it to the relays
to publish; no mechanisms, but what some tests need).
``history``, ``outbox`` and ``probe`` are settings; without ``sentinel`` the URL is that of
the first master.

``CHAOS_DIE``: ``commit:0.02`` kills the process with that probability between a commit and
its publication; ``publish:0.02`` between a publication and its deletion from the outbox.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from typing import Any

_place, _, _chance = os.environ.get("CHAOS_DIE", "").partition(":")
_off = frozenset(filter(None, os.environ.get("CHAOS_OFF", "").split(",")))


def die(place: str) -> None:
    """The end, if this is the place and the time has come."""
    if place == _place and random.random() < float(_chance):
        os.kill(os.getpid(), signal.SIGKILL)


def begin() -> None:
    for name in (
        *("repair", "generation", "lock", "fence", "cursor", "dedupe"),
        *("commit", "serving"),
    ):
        if name in _off:
            globals()[f"_no_{name}"]()
    if _place == "publish":
        _die_after_publishing()


def _no_repair() -> None:
    from redis_pubsub.hub.continuity import Continuity

    Continuity.take = Continuity._accept  # type: ignore[method-assign]
    Continuity.resubscribed = lambda self, feed: None  # type: ignore[method-assign]
    Continuity._look = lambda self: None  # type: ignore[method-assign]


def _no_generation() -> None:
    from redis_pubsub.broker.replication import Replication

    Replication.read = lambda self, info: None  # type: ignore[method-assign]


def _no_lock() -> None:
    from redis_pubsub.publishing.outbox import drain, locks

    numbers = itertools.count(time.time_ns())

    @contextlib.contextmanager
    def hold(using: str, partition: int) -> Any:
        yield locks.Hold(using, partition, next(numbers), "anybody")

    drain.hold = hold  # type: ignore[assignment]


def _no_fence() -> None:
    from redis_pubsub.broker import Fence
    from redis_pubsub.publishing.outbox.locks import Hold

    Hold.fence = property(lambda self: Fence(self.using, 1, "anybody"))  # type: ignore


def _no_cursor() -> None:
    from redis_pubsub.publishing.outbox import drain

    read, last = drain.read_batch, {}

    def read_on(using: str, partition: int, **options: Any) -> Any:
        rows = read(using, partition, **options)
        rows = [row for row in rows if row.pk > last.get(partition, 0)]
        if rows:
            last[partition] = rows[-1].pk
        return rows

    drain.read_batch = read_on


def _no_dedupe() -> None:
    from redis_pubsub.broker.blocking import BlockingRedisBroker

    publish = BlockingRedisBroker.publish_fenced

    def publish_anew(self: Any, drafts: Any, fence: Any) -> Any:
        anew = [(time.time_ns(), draft) for _, draft in drafts]
        return publish(self, anew, fence)

    BlockingRedisBroker.publish_fenced = publish_anew  # type: ignore[method-assign]


def _no_commit() -> None:
    from redis_pubsub.publishing import transactions

    transactions.deliver = lambda drafts, using: None  # type: ignore[attr-defined]


def _no_serving() -> None:
    from redis_pubsub.publishing.outbox.relay import Relay

    Relay.start = lambda self: None  # type: ignore[method-assign]


def _die_after_publishing() -> None:
    from redis_pubsub.broker.blocking import BlockingRedisBroker

    publish = BlockingRedisBroker.publish_fenced

    def publish_and_die(self: Any, drafts: Any, fence: Any) -> Any:
        outcomes = publish(self, drafts, fence)
        die("publish")
        return outcomes

    BlockingRedisBroker.publish_fenced = publish_and_die  # type: ignore[method-assign]
