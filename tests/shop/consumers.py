"""Work for the tests' workers; what was run is noted in a list in Redis."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import redis

from redis_pubsub.conf import get_config
from redis_pubsub.consumers import consumer

_local = threading.local()


def note(key: str, value: object) -> None:
    """Leave a trace that a test can read."""
    if not hasattr(_local, "redis"):
        _local.redis = redis.Redis.from_url(get_config().url)
    _local.redis.rpush(f"{get_config().prefix}-notes:{key}", str(value))


@consumer("count")
def count(number):
    """One of many small jobs; says who did it."""
    note("runs", number)
    time.sleep(0.002)


@consumer("in_order")
async def in_order(number):
    await asyncio.to_thread(note, "order", number)


@consumer("poison", retries=1, backoff_s=0.01)
def poison(how):
    note("poison", how)
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os._exit(9)
    raise RuntimeError(f"poisoned by {how}")


@consumer("slow", "slower")
def slow(seconds):
    note("slow", "begun")
    time.sleep(seconds)
    note("slow", "done")


@consumer("count_users")
def count_users():
    from django.contrib.auth import get_user_model

    note("users", get_user_model().objects.count())
