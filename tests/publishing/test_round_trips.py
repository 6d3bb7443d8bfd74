"""What a batch costs Redis, seen by Redis."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from django.db import transaction

from redis_pubsub import publish, publish_to
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer

AUDIENCES = {"users": [1, 2, 3], "groups": ["editors"], "sessions": ["k" * 32]}
READS = "total_reads_processed"
"""Redis reads 16 KiB at a time, and its client writes 6 kB: what is measured is less."""


@pytest.fixture
def own_redis(settings):
    """A Redis that nobody else talks to."""
    with RedisServer() as server:
        settings.REDIS_PUBSUB = {"url": server.url, "prefix": "mine"}
        yield server
        publisher.close()


async def cost(server, work):
    """What MONITOR shows of a function: commands by connection, and reads of the server."""
    async with (
        redis.asyncio.Redis.from_url(server.url) as admin,
        admin.monitor() as monitor,
    ):
        await admin.echo("begin")
        before = (await admin.info("stats"))[READS]
        await asyncio.to_thread(work)
        after = (await admin.info("stats"))[READS]
        await admin.echo("end")
        shown, has_begun = [], False
        async for entry in monitor.listen():
            command = entry["command"].split(" ")
            if command[0] == "ECHO":
                if command[1] == "end":
                    break
                has_begun = True
            # What a script does itself is shown too, as the client "lua".
            elif has_begun and entry["client_type"] != "lua" and command[0] != "INFO":
                client = (entry["client_address"], entry["client_port"])
                shown.append((client, command[0]))
    # The second INFO is a read itself.
    return shown, after - before - 1


@pytest.mark.django_db(transaction=True)
async def test_one_value_for_many_audiences_is_one_pipeline(own_redis):
    """W-10: six channels, six scripts, behind each other on one connection, read by Redis
    in one piece."""
    await asyncio.to_thread(publish, "warm", "connected, script loaded")

    shown, reads = await cost(
        own_redis, lambda: publish_to({"n": 1}, **AUDIENCES, broadcast=True)
    )

    assert [command for _, command in shown] == ["EVALSHA"] * 6
    assert len({client for client, _ in shown}) == 1
    assert reads == 1


@pytest.mark.django_db(transaction=True)
async def test_a_transaction_is_one_pipeline(own_redis):
    """W-10: whatever was published in it, at its commit."""
    await asyncio.to_thread(publish, "warm", "connected, script loaded")

    def work():
        with transaction.atomic():
            for n in range(3):
                publish(f"channel-{n}", n)
                publish_to(n, users=[n])

    shown, reads = await cost(own_redis, work)

    assert [command for _, command in shown] == ["EVALSHA"] * 6
    assert reads == 1
