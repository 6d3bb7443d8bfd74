"""One process's counters and gauges at a moment, and what several become together."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from ...engine import Engine
from ...metrics import MAX, MIN
from ...publishing.publisher import publisher

logger = logging.getLogger("redis_pubsub.health")


class Reading(msgspec.Struct, frozen=True, array_like=True):
    """What one gauge showed; see `redis_pubsub.metrics.Gauge`."""

    name: str
    help: str
    value: float
    joins: str
    labels: tuple[tuple[str, str], ...] = ()


class Numbers(msgspec.Struct, frozen=True):
    """What a process, or several, had to show.

    Attributes:
        counters: Name to count.
        gauges: One for each name and labels.
    """

    counters: dict[str, int] = {}
    gauges: tuple[Reading, ...] = ()


def numbers_of(engine: Engine) -> Numbers:
    """What a process shows now: its engine's, and what its threads published."""
    gauges = []
    for each in engine.gauges:
        try:
            value = float(each.read())
        except Exception:
            engine.metrics.count("metrics_errors")
            logger.exception("the gauge %r could not be read", each.name)
        else:
            gauges.append(Reading(each.name, each.help, value, each.joins, each.labels))
    counted = [engine.metrics.snapshot(), publisher.metrics.snapshot()]
    return Numbers(added(counted), tuple(gauges))


def added(counted: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counters of several processes."""
    total: dict[str, int] = {}
    for counters in counted:
        for name, count in counters.items():
            total[name] = total.get(name, 0) + count
    return total


def joined(all_numbers: Iterable[Numbers]) -> Numbers:
    """What several processes show together; each gauge says how it is joined."""
    counted: list[dict[str, int]] = []
    gauges: dict[tuple[str, tuple[tuple[str, str], ...]], Reading] = {}
    for numbers in all_numbers:
        counted.append(numbers.counters)
        for reading in numbers.gauges:
            key = reading.name, reading.labels
            before = gauges.get(key)
            gauges[key] = reading if before is None else _join(before, reading)
    return Numbers(added(counted), tuple(gauges.values()))


def _join(one: Reading, other: Reading) -> Reading:
    if one.joins == MAX:
        value = max(one.value, other.value)
    elif one.joins == MIN:
        value = min(one.value, other.value)
    else:
        value = one.value + other.value
    return msgspec.structs.replace(one, value=value)
