"""Many messages and large ones, from the publisher to the socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.messages import Draft, new_header
from redis_pubsub.options import ChannelOptions

pytestmark = pytest.mark.django_db(transaction=True)

COUNT, BATCH = 10_000, 500
AT_ONCE = 50


@websocket_pubsub("/news/")
async def news(ws, params, manager):
    await manager.forward(ws, "news")
    ws.send_str("ready")
    await ws.receive()


@pytest.fixture
def open_to_all(settings, site):
    settings.REDIS_PUBSUB = site | {
        "live": {"anonymous": True},
        "channels": {"news": {"subscribe": "anyone", "history_size": 10}},
    }


async def live(served):
    """A live client that has subscribed."""
    ws = await served.connect("/connection/websocket", max_msg_size=0)
    await ws.send_str('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}')
    replies = []
    while len(replies) < 2:
        replies += (await ws.receive_str()).split("\n")
    return ws


async def publications(ws, count):
    """Payloads of pushes, and their offsets."""
    found = []
    while len(found) < count:
        for line in (await ws.receive_str()).split("\n"):
            reply = json.loads(line)
            if reply:
                pub = reply["push"]["pub"]
                found.append((pub["offset"], pub["data"]))
            else:
                await ws.send_str("{}")
    return found


async def test_ten_thousand_messages_arrive_in_order(open_to_all, serve):
    """C-15: two publishers at once; each client of either kind gets all, once, in the one
    order that the offsets say, and each publisher's in his."""
    served = await serve(news)
    handler, client = await served.connect("/news/"), await live(served)
    await handler.receive_str()
    broker = served.engine.hub.broker
    kept = ChannelOptions(history_size=10, history_ttl_s=60)

    async def publish(who):
        for begin in range(0, COUNT // 2, BATCH):
            await broker.publish(
                [
                    Draft("news", new_header(), b'["%s",%d]' % (who, n), kept)
                    for n in range(begin, begin + BATCH)
                ]
            )

    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            group.create_task(publish(b"a"))
            group.create_task(publish(b"b"))
            heard = group.create_task(publications(client, COUNT))
            forwarded = [await handler.receive_json() for _ in range(COUNT)]

    assert [offset for offset, _ in heard.result()] == list(range(1, COUNT + 1))
    assert [data for _, data in heard.result()] == forwarded
    for who in ("a", "b"):
        assert [n for w, n in forwarded if w == who] == list(range(COUNT // 2))
    await handler.close()
    await client.close()


async def test_a_megabyte_reaches_the_sockets(open_to_all, serve):
    """C-15: as much as a message may have, whole."""
    served = await serve(news)
    handler = await served.connect("/news/", max_msg_size=0)
    client = await live(served)
    await handler.receive_str()
    text = "ä" * 499_000

    await apublish("news", text)

    assert await handler.receive_json() == text
    ((_, data),) = await publications(client, 1)
    assert data == text
    await handler.close()
    await client.close()


async def test_a_sender_at_a_high_rate_hears_the_others_alone(open_to_all, serve):
    """W-7: two connections that publish as fast as they can: each gets all of the other's,
    in order, and none of its own, though their contents are the same."""

    @websocket_pubsub("/chat/")
    async def chat(ws, params, manager):
        await manager.forward(ws, "chat")
        ws.send_str("ready")
        async for message in ws:
            await apublish("chat", int(message.data), exclude=ws.id)

    served = await serve(chat)
    both = [await served.connect("/chat/") for _ in range(2)]
    for ws in both:
        await ws.receive_str()

    async def hear(ws):
        return [await ws.receive_json() for _ in range(AT_ONCE)]

    async with asyncio.timeout(30):
        for begin in range(0, 500, AT_ONCE):
            numbers = list(range(begin, begin + AT_ONCE))
            for n in numbers:
                for ws in both:
                    await ws.send_str(str(n))
            # What a handler has not read is bounded: so many at once, then their echoes.
            assert await asyncio.gather(*map(hear, both)) == [numbers, numbers]
    for ws in both:
        await ws.close()
