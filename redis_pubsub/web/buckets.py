"""How often something may happen: buckets of tokens, one or one per key.

Pure: a clock and numbers; knows no socket. A bucket is one number, the moment at which it
will be full again, so that thousands of them cost little and none needs a timer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable

_ROUNDING_S = 1e-8
"""What a clock of months loses to rounding must not cost a token."""


class TokenBucket:
    """So many at once, and so many a second in the long run.

    Args:
        capacity: What a full bucket holds; it is full at first.
        per_s: What comes back each second.
    """

    __slots__ = ("_full_at", "_span_s", "_token_s")

    def __init__(self, capacity: float, per_s: float) -> None:
        self._token_s = 1 / per_s
        self._span_s = capacity / per_s
        self._full_at = 0.0

    def take(self, amount: float = 1, *, now: float | None = None) -> bool:
        """Take some out; ``False``, and nothing is taken, where there is not enough.

        Args:
            amount: How many.
            now: Of ``time.monotonic()``, for who has asked it already.
        """
        if now is None:
            now = time.monotonic()
        full_at = max(self._full_at, now) + amount * self._token_s
        if full_at - now > self._span_s + _ROUNDING_S:
            return False
        self._full_at = full_at
        return True

    def wait_s(self, amount: float = 1) -> float:
        """Seconds until so many will be there; 0 if they are."""
        now = time.monotonic()
        needed = max(self._full_at, now) + amount * self._token_s - self._span_s
        return max(0.0, needed - now)

    def is_full(self, now: float) -> bool:
        """Whether it says nothing that a new bucket would not."""
        return self._full_at <= now


class Buckets:
    """A bucket for each key, bounded: who was not seen for longest is forgotten first.

    Forgetting gives a full bucket back, so ``max_keys`` is the number of keys that can be
    told apart at once; an attacker needs more addresses than that to gain by it.

    Args:
        capacity: See `TokenBucket`.
        per_s: See `TokenBucket`.
        max_keys: Keys that are remembered.
    """

    def __init__(self, capacity: float, per_s: float, max_keys: int = 10_000) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._max_keys = max_keys
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, amount: float = 1) -> bool:
        """See `TokenBucket.take`."""
        return self._of(key).take(amount)

    def wait_s(self, key: Hashable, amount: float = 1) -> float:
        """See `TokenBucket.wait_s`; an unknown key is not remembered for it."""
        bucket = self._buckets.get(key)
        return 0.0 if bucket is None else bucket.wait_s(amount)

    def __len__(self) -> int:
        return len(self._buckets)

    def _of(self, key: Hashable) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room()
            bucket = self._buckets[key] = TokenBucket(self._capacity, self._per_s)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _make_room(self) -> None:
        now = time.monotonic()
        # Two for one that comes, so that those who are quiet again do not pile up.
        for _ in range(2):
            oldest = next(iter(self._buckets), None)
            if oldest is None or not self._buckets[oldest].is_full(now):
                break
            del self._buckets[oldest]
        while len(self._buckets) >= self._max_keys:
            self._buckets.popitem(last=False)
