"""After a lot of coming and going, and of messages, a worker holds what it held before."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .clients import Socket
from .conftest import IS_FULL
from .stand import Databases, Plan, Stand

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(1800 if IS_FULL else 600),
]

CYCLES = 10_000 if IS_FULL else 1_000
MESSAGES = 200_000 if IS_FULL else 20_000
AT_ONCE = 50
LISTENERS = 20
ROOMS = [f"room:{n:03}" for n in range(50)]
RSS_MB = 10.0
"""What the allocator may keep."""
CANCELLED = 250
"""Objects of timers that were cancelled: asyncio keeps up to a hundred of them."""
SETTLING_S = 30.0
"""Handshakes' deadlines hold a connection a while longer than it lives."""


@pytest.fixture
def stand(bases: Databases, tmp_path: Path) -> Iterator[Stand]:
    plan = replace(Plan(workers=1, off=("outbox",)), clients=0)
    with Stand(tmp_path, bases, plan, seed=1) as found:
        yield found


async def open_client(port: int, *channels: str) -> Socket:
    socket = await Socket.open(port, "/connection/websocket")
    wishes = [
        {"id": i + 2, "subscribe": {"channel": channel}}
        for i, channel in enumerate(channels)
    ]
    socket.send({"id": 1, "connect": {}}, *wishes)
    answered = 0
    while answered < 1 + len(channels):
        answers = [json.loads(line) for line in (await socket.receive()).split("\n")]
        assert not any("error" in answer for answer in answers), answers
        answered += sum("id" in answer for answer in answers)
    return socket


async def come_and_go(port: int, cycles: int) -> None:
    """Connect, subscribe to two channels, leave: half of them without a word."""
    todo = iter(range(cycles))

    async def one_after_the_other() -> None:
        for i in todo:
            socket = await open_client(port, ROOMS[i % 50], ROOMS[(i * 7 + 1) % 50])
            if i % 2:
                await socket.close()
            else:
                socket.cut()

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


async def listen(port: int, room: str) -> int:
    """Everything on a channel until its end; how many, all in order."""
    socket = await open_client(port, room)
    count, last = 0, -1
    while True:
        for line in (await socket.receive()).split("\n"):
            push = json.loads(line).get("push")
            if push is None:
                socket.send({})
                continue
            key = push["pub"]["data"]["key"]
            if key == "end":
                socket.cut()
                return count
            assert key > last
            count, last = count + 1, key


async def flood(stand: Stand, messages: int) -> int:
    rooms = ROOMS[:LISTENERS]
    listening = [asyncio.create_task(listen(stand.port, room)) for room in rooms]
    redis = stand.redis()
    while redis.pubsub_numsub(*(f"chaos:{{{room}}}:live" for room in rooms))[-1][1] == 0:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    options = json.dumps({"messages": messages, "channels": rooms})
    flooding = stand.run_beside("-m", "tests.chaos.flood", options)
    got = sum(await asyncio.gather(*listening))
    assert await asyncio.to_thread(flooding.wait) == 0, flooding.output
    return got


async def vitals(stand: Stand) -> dict[str, float]:
    """Of the worker, once what has to end has ended."""
    socket = await open_client(stand.port)
    # A channel stays subscribed for a second, a log is kept for one.
    await asyncio.sleep(3)
    socket.send({"id": 9, "rpc": {"method": "vitals"}})
    answer: dict[str, Any] = json.loads(await socket.receive())
    await socket.close()
    redis = stand.redis()
    found = answer["rpc"]["data"]
    found["redis_clients"] = redis.info("clients")["connected_clients"]
    found["redis_channels"] = len(redis.pubsub_channels("chaos:*room*"))
    return found


async def at_rest(stand: Stand) -> dict[str, float]:
    """`vitals`, once nothing more is let go of."""
    found = await vitals(stand)
    async with asyncio.timeout(SETTLING_S):
        while (later := await vitals(stand))["objects"] < found["objects"] * 0.95:
            found = later
    return later


def kept(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """What a worker has more of than it may."""
    # The pool of command connections grows when it is needed, to 16, and then stays.
    pooled = max(0, after["redis_clients"] - before["redis_clients"])
    most = {
        "tasks": before["tasks"],
        "channels": before["channels"],
        "redis_channels": 0,
        "redis_clients": 18,
        "files": before["files"] + pooled,
        "objects": before["objects"] + CANCELLED + CYCLES // 4,
        "rss_mb": before["rss_mb"] + RSS_MB,
    }
    return [name for name, limit in most.items() if after[name] > limit]


async def test_a_worker_returns_to_where_it_began(stand: Stand, record_property: Any):
    """Tasks and channels to the number, objects to less than one for four connections,
    files and connections to Redis up to those that are pooled, memory to what an allocator
    keeps."""
    # As many as will be measured: caches, and what the collector lets be, are full then.
    await come_and_go(stand.port, CYCLES)
    await flood(stand, max(10_000, MESSAGES // 10))
    before = await at_rest(stand)

    await come_and_go(stand.port, CYCLES)
    got = await flood(stand, MESSAGES)

    after = await vitals(stand)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLING_S):
            while kept(before, after):
                after = await vitals(stand)
    record_property("before", before)
    record_property("after", after)
    print(f"before {before}, after {after}")
    assert got == MESSAGES
    assert kept(before, after) == [], (before, after)
