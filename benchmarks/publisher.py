"""Publishes from a process of its own: ``python -m benchmarks.publisher ours``.

``bare`` uses redis-py's pipeline, all others this package's blocking broker; to
``audience-…`` go snapshots of a row whose field ``notes`` is the payload.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from .payloads import payload
from .processes import say
from .server import CHANNEL

Publish = Callable[[list[bytes]], None]


def ours(*, as_rows: bool = False) -> Publish:
    """As `redis_pubsub.publish` does after a commit: the drafts in one pipeline."""
    from redis_pubsub import codec
    from redis_pubsub.broker import open_blocking
    from redis_pubsub.messages import SNAPSHOT, Draft, Header, new_header
    from redis_pubsub.metrics import Metrics
    from redis_pubsub.options import BrokerOptions

    broker = open_blocking(BrokerOptions(url=os.environ["REDIS_URL"]), Metrics())

    def header() -> Header:
        if as_rows:
            return new_header("update", model="shop.document", pk="1", audience=SNAPSHOT)
        return new_header()

    def row(raw: bytes) -> bytes:
        fields = {"title": "", "notes": raw.decode(), "is_public": True, "tags": []}
        fields["channel"] = 1
        return codec.encode([{"model": "shop.document", "pk": 1, "fields": fields}])

    def publish(payloads: list[bytes]) -> None:
        broker.publish(
            [Draft(CHANNEL, header(), row(raw) if as_rows else raw) for raw in payloads]
        )

    return publish


def bare() -> Publish:
    """A pipeline of ``PUBLISH``."""
    import redis

    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    def publish(payloads: list[bytes]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for raw in payloads:
                pipeline.publish(CHANNEL, raw)
            pipeline.execute()

    return publish


def publish_all(publish: Publish, command: dict[str, Any]) -> dict[str, Any]:
    """Publish ``messages``, in pipelines of ``chunk``, ``rate`` a second (0: no pause)."""
    count, chunk, rate = command["messages"], command["chunk"], command["rate"]
    first, size = command["first"], command["size"]
    started, cpu = time.time(), time.process_time()
    due = time.monotonic()
    for begin in range(0, count, chunk):
        if rate:
            time.sleep(max(0.0, due - time.monotonic()))
            due += chunk / rate
        publish([payload(first + i, size) for i in range(begin, min(count, begin + chunk))])
    return {
        "started": started,
        "took_s": time.time() - started,
        "cpu_s": time.process_time() - cpu,
    }


if __name__ == "__main__":
    _kind = sys.argv[1]
    _publish = bare() if _kind == "bare" else ours(as_rows=_kind.startswith("audience-"))
    say({})
    for _line in sys.stdin:
        say(publish_all(_publish, json.loads(_line)))
