"""Brokers: what gives messages their order and carries them between processes."""

from __future__ import annotations

from ..metrics import Metrics
from ..options import BrokerOptions
from .base import FORWARD, REVERSE, TAIL, BlockingBroker, Broker, History, Read, Sink
from .fencing import Fence, FencedOff, HeldBack, Numbered, Outcome, Refused, Sent

__all__ = [
    "FORWARD",
    "REVERSE",
    "TAIL",
    "BlockingBroker",
    "Broker",
    "Fence",
    "FencedOff",
    "HeldBack",
    "History",
    "Numbered",
    "Outcome",
    "Read",
    "Refused",
    "Sent",
    "Sink",
    "open_blocking",
    "open_broker",
]

MEMORY = "memory://"


def open_broker(options: BrokerOptions, metrics: Metrics) -> Broker:
    """The asynchronous broker of a URL; call on the event loop that will use it."""
    if options.url.startswith(MEMORY):
        from .memory import MemoryBroker

        return MemoryBroker(options, metrics)
    from .redis import RedisBroker

    return RedisBroker(options, metrics)


def open_blocking(options: BrokerOptions, metrics: Metrics) -> BlockingBroker:
    """The synchronous broker of a URL. Connects when it is first used."""
    if options.url.startswith(MEMORY):
        from .memory import BlockingMemoryBroker

        return BlockingMemoryBroker(options, metrics)
    from .blocking import BlockingRedisBroker

    return BlockingRedisBroker(options, metrics)
