"""Values in Redis that are taken once: what tickets are kept by."""

from __future__ import annotations

import asyncio
import time

from ..engine import current_engine
from ..exceptions import BrokerUnavailable
from .publisher import publisher

_SLOW_S = 0.5


def put_once(name: str, value: bytes, ttl_s: float) -> None:
    """See `Broker.put`; while Redis hangs, only the first of a second waits for it.

    Raises:
        BrokerUnavailable: It may not be there.
    """
    if publisher.is_held_off:
        raise BrokerUnavailable("Redis hung a moment ago; not tried again yet")
    began = time.monotonic()
    try:
        publisher.broker().put(name, value, ttl_s)
    except BrokerUnavailable:
        if time.monotonic() - began > _SLOW_S:
            publisher.hold_off()
        raise


async def aput_once(name: str, value: bytes, ttl_s: float) -> None:
    """`put_once` for coroutines."""
    engine = current_engine()
    if engine is None:
        await asyncio.to_thread(put_once, name, value, ttl_s)
    else:
        await engine.hub.broker.put(name, value, ttl_s)
