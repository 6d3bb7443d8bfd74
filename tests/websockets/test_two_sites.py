"""Two projects on one Redis."""

from __future__ import annotations

import json

import pytest
import redis
from asgiref.sync import sync_to_async
from django.test import override_settings

from redis_pubsub import (
    consumer,
    history,
    presence,
    publish,
    publish_to,
    send,
    send_to,
)
from redis_pubsub.conf import get_config
from redis_pubsub.contrib.websockets import setup
from redis_pubsub.engine import Engine
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.worker import Worker

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("a", "a:b")
RULES = {"news": {"subscribe": "anyone", "history_size": 10, "presence": True}}


@pytest.fixture
def of(site, prefix):
    """``with of("x"):`` the settings of one of the two projects."""

    def settings(name):
        values = {"prefix": f"{prefix}-{name}", "channels": RULES}
        return override_settings(REDIS_PUBSUB=site | values | {"live": {"anonymous": True}})

    yield settings
    publisher.close()


class Page:
    """A live client that listens to ``news``."""

    async def connect(self, served):
        self.ws = await served.connect("/connection/websocket")
        self.replies = []
        wish = '{"id":2,"subscribe":{"channel":"news"}}'
        await self.ws.send_str('{"id":1,"connect":{}}\n' + wish)
        self.client_id = (await self.next())["connect"]["client"]
        await self.next()
        return self

    async def next(self):
        while not self.replies:
            lines = (await self.ws.receive_str(timeout=10)).split("\n")
            self.replies = [json.loads(line) for line in lines if line != "{}"]
        return self.replies.pop(0)

    async def value(self):
        push = (await self.next())["push"]
        return (push.get("pub") or push["message"])["data"]


def say(name, connections):
    """Everything that one project can say."""
    publish("news", [name, "channel"])
    publish_to([name, "broadcast"], broadcast=True)
    send("work", name=name)
    for id in connections:
        send_to(id, [name, "connection"])


async def test_two_prefixes_are_two_sites(serve, of, redis_server, prefix, until):
    """W-9: the same channel, audience, queue, and each other's connection ids; who
    publishes in one project reaches nobody of the other, and sees nothing of it."""
    pages, workers, ran = {}, [], []
    for name in NAMES:

        @consumer("work")
        async def work(where=name, **arguments):
            ran.append((where, arguments["name"]))

        with of(name):
            served = await serve(app=setup(handlers=[], receivers=[]))
            await served.engine.hub.confirmed("\x00control")
            pages[name] = await Page().connect(served)
            engine = Engine(get_config())
            await engine.start()
            workers.append((Worker(engine, [work]), engine))
            workers[-1][0].start()

    connections = [page.client_id for page in pages.values()]
    for name in NAMES:
        with of(name):
            await sync_to_async(say)(name, connections)

    for name, page in pages.items():
        heard = sorted([await page.value() for _ in range(3)])
        assert heard == [[name, "broadcast"], [name, "channel"], [name, "connection"]]
        with of(name):
            kept = await sync_to_async(history)("news")
            there = await sync_to_async(presence)("news")
        assert [message.payload for message in kept] == [[name, "channel"]]
        assert [client.client for client in there] == [page.client_id]
    await until(lambda: len(ran) == 2)
    assert sorted(ran) == [(name, name) for name in NAMES]
    for worker, engine in workers:
        await worker.close()
        await engine.close()

    keys = await sync_to_async(all_keys)(redis_server, prefix)
    ours = tuple(f"{prefix}-{name}:".encode() for name in NAMES)
    assert keys and [key for key in keys if not key.startswith(ours)] == []
    for page in pages.values():
        await page.ws.close()


def all_keys(server, prefix):
    with redis.Redis.from_url(server.url) as client:
        return [key for key in client.scan_iter() if prefix.encode() in key]
