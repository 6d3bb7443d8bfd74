"""Numbers as Prometheus reads them; the only importer of ``prometheus_client``."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from .numbers import Numbers

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PREFIX = "redis_pubsub_"
_HELP = "See docs/topics/serving.rst, Counters"


def page(numbers: Numbers, *, is_alone: bool) -> bytes:
    """The answer to a scrape. Blocking: reads files where there are several workers.

    What else the site has registered with ``prometheus_client`` is in it where it is the
    whole truth: in a server of one process, or with ``PROMETHEUS_MULTIPROC_DIR``.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    elif is_alone:
        registry.register(_Registered())
    return generate_latest(registry)


class _Numbers(Collector):
    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        for name, count in sorted(self._numbers.counters.items()):
            yield CounterMetricFamily(_PREFIX + name, _HELP, value=count)
        families: dict[str, GaugeMetricFamily] = {}
        for reading in self._numbers.gauges:
            family = families.get(reading.name)
            if family is None:
                family = families[reading.name] = GaugeMetricFamily(
                    _PREFIX + reading.name,
                    reading.help,
                    labels=[label for label, _ in reading.labels],
                )
            family.add_metric([value for _, value in reading.labels], reading.value)
        yield from families.values()


class _Registered(Collector):
    def collect(self) -> Iterable[Metric]:
        yield from REGISTRY.collect()
