"""Ends of a connection that go wrong, and what is logged of it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import WSMsgType, web

from redis_pubsub import get_application
from redis_pubsub.contrib.websockets import setup, websocket, websocket_pubsub
from redis_pubsub.contrib.websockets import socket as socket_module
from redis_pubsub.contrib.websockets.runner import RedactingAccessLogger
from redis_pubsub.contrib.websockets.server import make_runner
from redis_pubsub.models import Channel
from redis_pubsub.web import connections as connections_module
from redis_pubsub.web.connections import Connections

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_client_that_never_reads_keeps_no_connection(
    serve, settings, site, until, monkeypatch
):
    """The handler has returned, the client takes nothing: after the deadline it is over.
    (The send buffer is wide, so that it is not the slow policy that ends it.)"""
    settings.REDIS_PUBSUB = site | {"limits": {"send_buffer_bytes": 10**9}}
    monkeypatch.setattr(socket_module, "_CLOSE_DEADLINE_S", 0.2)

    @websocket("/flood")
    async def flood(ws, params):
        for _ in range(50):
            ws.send_bytes(b"x" * 1_000_000)

    served = await serve(flood)
    ws = await served.connect("/flood")
    ws._response.connection.transport.pause_reading()

    await until(lambda: len(served.engine.part(Connections)) == 0)
    assert served.engine.metrics["slow_disconnects"] == 0


async def test_a_message_as_large_as_the_limit_is_received(serve):
    """The bound on what waits is not a bound on one message."""

    @websocket("/large")
    async def large(ws, params):
        message = await ws.receive()
        ws.send_str(str(len(message.data)))

    served = await serve(large)
    ws = await served.connect("/large")
    await ws.send_str("x" * 3_000_000)

    assert await ws.receive_str() == "3000000"


async def test_a_name_that_is_none_is_1008(serve):
    """`/hear/%00control`: the control channel is not for clients; no traceback for each."""

    @websocket_pubsub("/hear/{channel}")
    async def hear(ws, params, manager):
        await manager.forward(ws, params["channel"])

    served = await serve(hear)
    ws = await served.connect("/hear/%00control")
    message = await ws.receive()

    assert (message.type, ws.close_code) == (WSMsgType.CLOSE, 1008)
    assert served.engine.metrics["invalid_channel_names"] == 1


async def test_a_handler_whose_subscription_ended_closes_normally(serve, user):
    """1.0's handlers await their listener; turning the subscription off is no crash."""
    channel = await Channel.objects.acreate(name="mine")
    subscription = await channel.asubscribe(user)

    @websocket_pubsub("/mine")
    async def mine(ws, params, manager):
        reader = subscription.get_reader(manager)
        listener = await reader.callback(print).listen()
        ws.send_str("ready")
        await listener

    served = await serve(mine)
    ws = await served.connect("/mine")
    await ws.receive_str()
    await channel.aunsubscribe(user)

    async with asyncio.timeout(5):
        await ws.receive()
    assert ws.close_code == 1000


@pytest.mark.parametrize(
    "path",
    [
        "/x?token=SECRET",
        "/x?a=1&token=SECRET&b=2",
        "/x?%74oken=SECRET",
        "/connection/sse?cf_connect=%7B%22connect%22%3A%7B%22token%22%3A%22SECRET%22%7D%7D",
        "/x?a=1&cf%5Fconnect=SECRET&b=2",
    ],
)
async def test_an_access_log_never_shows_a_token(site, path, caplog):
    """B14: however the name is spelt, in the request line and in a referrer; other
    parameters stay. Over a real connection, as aiohttp logs it."""
    caplog.set_level(logging.INFO, "test.access")
    log = logging.getLogger("test.access")
    runner = web.AppRunner(
        setup(handlers=[]), access_log=log, access_log_class=RedactingAccessLogger
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])

    lines = [
        f"GET {path.replace('/x', '/nothing')} HTTP/1.1",
        "Host: localhost",
        f"Referer: http://localhost{path}",
        "Connection: close",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await reader.read()
    await runner.cleanup()
    writer.close()

    assert "SECRET" not in caplog.text and caplog.text.count("=…") == 2
    assert "a=1" not in path or ("a=1" in caplog.text and "b=2" in caplog.text)


async def test_a_process_that_ends_says_goodbye_in_waves(serve, until):
    """Not everybody comes back in one moment to the other processes."""

    @websocket("/wait/")
    async def wait(ws, params, **kwargs):
        await ws.receive()

    served = await serve(wait)
    sockets = [await served.connect("/wait/") for _ in range(90)]
    codes = []

    async def leave(ws):
        await ws.receive()
        codes.append(ws.close_code)

    leaving = [asyncio.create_task(leave(ws)) for ws in sockets]
    connections = served.engine.part(Connections)
    draining = asyncio.create_task(connections.drain(5))
    await until(lambda: codes)
    still_there = len(connections)
    await draining
    await asyncio.gather(*leaving)

    assert still_there >= 90 - 50
    assert codes == [1001] * 90


@pytest.mark.parametrize(
    ("spread_s", "last_s"), [(20.0, 8.9), (3.0, 3.0), (0, 0)], ids=["rate", "most", "off"]
)
async def test_clients_are_told_when_to_come_back(
    serve, settings, site, monkeypatch, spread_s, last_s
):
    """Evenly, so many a second, and the last within the setting; the moments count from the
    beginning, however long the goodbyes take."""
    monkeypatch.setattr(connections_module, "_RETURNS_PER_S", 10.0)
    settings.REDIS_PUBSUB = site | {"reconnect_spread_s": spread_s}

    @websocket("/wait/")
    async def wait(ws, params, **kwargs):
        await ws.receive()

    served = await serve(wait)
    sockets = [await served.connect("/wait/") for _ in range(90)]
    reasons = [asyncio.create_task(_reason(ws)) for ws in sockets]
    await served.engine.part(Connections).drain(5)

    said = [await reason for reason in reasons]
    delays = sorted(float(each.partition("; reconnect in ")[2][:-2] or 0) for each in said)
    assert all(each.startswith("the server is restarting") for each in said)
    assert last_s - 1.5 <= delays[-1] <= last_s
    # Told in the order in which they are wanted back, so the first are wanted at once.
    assert delays[0] == 0 and delays[45] <= last_s * 0.6


async def _reason(ws) -> str:
    return (await ws.receive()).extra


@pytest.mark.parametrize("after_s", [0.02, 0.5])
async def test_a_request_on_a_connection_that_was_just_accepted_is_answered(site, after_s):
    """A process that ends has taken it off the queue of those that go on; also where it, or
    the network, is so busy that the request comes late."""
    runner = make_runner(get_application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    while not runner.server.entrance.has_silent:
        await asyncio.sleep(0.01)

    cleaning = asyncio.create_task(runner.cleanup())
    await asyncio.sleep(after_s)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    await cleaning
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
