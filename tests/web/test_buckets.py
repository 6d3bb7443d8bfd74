from __future__ import annotations

import time

import pytest

from redis_pubsub.web.buckets import Buckets, TokenBucket


def test_a_bucket_gives_what_it_holds_and_then_what_comes_back():
    """A burst of the capacity passes at once, afterwards the rate."""
    bucket = TokenBucket(capacity=3, per_s=2)
    now = time.monotonic()

    at_once = [bucket.take(now=now) for _ in range(4)]
    after_half_a_second = [bucket.take(now=now + 0.5) for _ in range(2)]

    assert at_once == [True, True, True, False]
    assert after_half_a_second == [True, False]


def test_what_is_refused_is_not_taken():
    """Who asks in vain does not wait longer for it."""
    bucket = TokenBucket(capacity=2, per_s=1)
    now = time.monotonic()

    assert not bucket.take(3, now=now)
    assert bucket.take(2, now=now)


def test_a_bucket_never_holds_more_than_its_capacity():
    """A long silence saves nothing up."""
    bucket = TokenBucket(capacity=2, per_s=1_000)
    now = time.monotonic()
    bucket.take(now=now)

    later = [bucket.take(now=now + 3_600) for _ in range(3)]

    assert later == [True, True, False]


def test_who_must_wait_is_told_for_how_long():
    """That is what Retry-After says."""
    bucket = TokenBucket(capacity=1, per_s=0.1)
    bucket.take()

    assert bucket.wait_s() == pytest.approx(10, abs=0.5)


def test_each_key_has_a_bucket_of_its_own():
    """One address does not use up another's."""
    buckets = Buckets(capacity=1, per_s=0.001)

    assert buckets.take("a") and buckets.take("b")
    assert not buckets.take("a")


def test_the_table_of_buckets_is_bounded():
    """However many addresses somebody has, so many are remembered."""
    buckets = Buckets(capacity=1, per_s=0.001, max_keys=10)

    for number in range(1_000):
        buckets.take(number)

    assert len(buckets) == 10
    assert not buckets.take(999)


def test_who_is_quiet_again_is_forgotten():
    """A full bucket says nothing, so it is not kept."""
    buckets = Buckets(capacity=1, per_s=1e9)

    for number in range(1_000):
        buckets.take(number)

    assert len(buckets) <= 2
