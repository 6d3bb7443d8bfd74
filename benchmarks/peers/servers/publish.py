"""Publishes from a process of its own, as each peer's documentation has it.

``python -m benchmarks.peers.servers.publish ours|redis|channels|socketio|nats``. Takes
commands from standard input, one JSON line each::

    {"channels": ["news"], "first": 0, "messages": 50, "size": 100, "rate": 50, "chunk": 1}

Message after message goes to every channel. ``rate`` is messages a second, all channels
together, 0 for no pause; ``chunk`` is how many share a round trip, where the peer has such
a thing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from ...payloads import now_us, payload, value

Due = list[tuple[str, int]]
"""Channels, and the numbers of their messages."""


def ours(size: int) -> Callable[[Due], None]:
    """`redis_pubsub.publish`; what shares a transaction shares a round trip."""
    from django.db import transaction

    from redis_pubsub import publish

    def send(due: Due) -> None:
        if len(due) == 1:
            publish(due[0][0], value(due[0][1], size))
            return
        with transaction.atomic():
            for channel, number in due:
                publish(channel, value(number, size))

    return send


def plain_redis(size: int) -> Callable[[Due], None]:
    """A pipeline of ``PUBLISH``."""
    import redis

    client = redis.Redis.from_url(os.environ["REDIS_URL"])

    def send(due: Due) -> None:
        if len(due) == 1:
            client.publish(due[0][0], payload(due[0][1], size))
            return
        with client.pipeline(transaction=False) as pipeline:
            for channel, number in due:
                pipeline.publish(channel, payload(number, size))
            pipeline.execute()

    return send


def socketio_emit(size: int) -> Callable[[Due], None]:
    """A write-only manager, as for "emitting from external processes"."""
    import socketio

    manager = socketio.RedisManager(os.environ["REDIS_URL"], write_only=True)

    def send(due: Due) -> None:
        for channel, number in due:
            manager.emit("news", value(number, size), room=channel)

    return send


def nats_publish(size: int) -> Callable[[Due], None]:
    """``PUB`` over the plain TCP port, as all NATS clients write it, buffered."""
    import socket

    client = socket.create_connection(("127.0.0.1", int(os.environ["NATS_PORT"])))
    reader = client.makefile("rb")
    reader.readline()
    client.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
    reader.readline()
    form = b"PUB %s %d\r\n%s\r\n"

    def send(due: Due) -> None:
        client.sendall(
            b"".join(
                form % (channel.encode(), size, payload(number, size))
                for channel, number in due
            )
        )

    return send


def channels_send(size: int) -> Callable[[Due], Awaitable[None]]:
    """``group_send``, awaited one by one: the layer has nothing for many."""
    from channels.layers import get_channel_layer

    from . import channels_site  # noqa: F401

    layer = get_channel_layer()

    async def send(due: Due) -> None:
        for channel, number in due:
            event = {"type": "news.message", "text": payload(number, size).decode()}
            await layer.group_send(channel, event)

    return send


def batches(command: dict[str, Any]) -> Iterator[Due]:
    """What is due together, in order."""
    batch: Due = []
    for number in range(command["first"], command["first"] + command["messages"]):
        for channel in command["channels"]:
            batch.append((channel, number))
            if len(batch) == command["chunk"]:
                yield batch
                batch = []
    if batch:
        yield batch


class Pace:
    """So many a second, or as many as go."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = time.monotonic()

    def pause_s(self, count: int) -> float:
        """How long to wait before so many more."""
        if not self._rate:
            return 0.0
        pause = self._due - time.monotonic()
        self._due += count / self._rate
        return max(0.0, pause)


def _answer(started: int, cpu: float) -> None:
    done = {"started_us": started, "ended_us": now_us(), "cpu_s": time.process_time() - cpu}
    print(json.dumps(done), flush=True)


def _serve(make: Callable[[int], Callable[[Due], None]]) -> None:
    print("{}", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        send, pace = make(command["size"]), Pace(command["rate"])
        started, cpu = now_us(), time.process_time()
        for batch in batches(command):
            pause = pace.pause_s(len(batch))
            if pause:
                time.sleep(pause)
            send(batch)
        _answer(started, cpu)


async def _serve_async(make: Callable[[int], Callable[[Due], Awaitable[None]]]) -> None:
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        send, pace = make(command["size"]), Pace(command["rate"])
        started, cpu = now_us(), time.process_time()
        for batch in batches(command):
            pause = pace.pause_s(len(batch))
            if pause:
                await asyncio.sleep(pause)
            await send(batch)
        _answer(started, cpu)


def _main(kind: str) -> None:
    if kind == "channels":
        asyncio.run(_serve_async(channels_send))
        return
    if kind == "ours":
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site.settings"
        django.setup()
    kinds = {
        "ours": ours,
        "redis": plain_redis,
        "socketio": socketio_emit,
        "nats": nats_publish,
    }
    made: dict[int, Callable[[Due], None]] = {}

    def once(size: int) -> Callable[[Due], None]:
        """Clients are connected once for each size, not in every round."""
        if size not in made:
            made[size] = kinds[kind](size)
        return made[size]

    _serve(once)


if __name__ == "__main__":
    _main(sys.argv[1])
