"""Open and close hooks run once for each client, however it comes and goes."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest

from redis_pubsub.contrib.events import EventModule, EventSocket
from redis_pubsub.testing import RedisServer
from redis_pubsub.web.connections import Connections


class Book:
    """Who came and went, with the close code."""

    def __init__(self, socket: EventSocket | EventModule, name: str = "") -> None:
        self.opens: Counter[str] = Counter()
        self.closes: list[tuple[str, int]] = []
        socket.on_open(lambda connection: self.opens.update([connection.id]))
        socket.on_close(lambda connection, code: self.closes.append((connection.id, code)))

    @property
    def codes(self) -> list[int]:
        return sorted(code for _, code in self.closes)


async def close_of(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(15):
        while not ws.closed:
            await ws.receive()
    return ws.close_code


async def test_a_clean_close_has_the_clients_code(serve, until):
    """M-1: its own, once."""
    socket = EventSocket("/x/")
    book = Book(socket)
    ws = await (await serve(socket)).connect("/x/")
    await until(lambda: book.opens)
    await ws.close(code=4321)

    await until(lambda: book.closes)
    ((who, code),) = book.closes
    assert code == 4321 and book.opens == {who: 1}


async def test_a_lost_connection_closes_with_1006(serve, until):
    """M-1: the transport ends without a close frame."""
    socket = EventSocket("/x/")
    book = Book(socket)
    ws = await (await serve(socket)).connect("/x/")
    await until(lambda: book.opens)
    ws._response.connection.transport.abort()

    await until(lambda: book.closes)
    assert book.codes == [1006]


async def test_the_end_of_the_process_closes_with_1001(serve, until):
    """M-1: each socket's hooks once, and they have ended when the engine has."""
    socket = EventSocket("/x/")
    book = Book(socket)

    @socket.on_close
    async def slow(connection, code):
        await asyncio.sleep(0.2)
        slow_ends.append(code)

    slow_ends: list[int] = []
    served = await serve(socket)
    clients = [await served.connect("/x/") for _ in range(5)]
    await until(lambda: len(book.opens) == 5)
    closed = asyncio.gather(*map(close_of, clients))
    await served.engine.part(Connections).drain(5)
    await closed
    await served.engine.close()

    assert book.codes == slow_ends == [1001] * 5
    assert set(book.opens.values()) == {1}


async def test_a_hung_up_socket_runs_its_hooks(serve, until):
    """M-1: its handler is cancelled in the middle; the hook comes to its end."""
    socket = EventSocket("/x/")
    book = Book(socket)
    began = asyncio.Event()

    @socket.on("wait")
    async def wait(connection):
        began.set()
        await asyncio.Event().wait()

    served = await serve(socket)
    ws = await served.connect("/x/")
    await ws.send_str('{"event":"wait"}')
    await began.wait()
    served.engine.part(Connections).hang_up()

    await until(lambda: book.closes)
    assert book.codes == [1001]


async def test_what_is_sent_after_a_close_is_not_handled(serve, until):
    """`socket.close()`: events that waited behind it are dropped, the hook has its code."""
    socket = EventSocket("/x/")
    book = Book(socket)
    calls = []

    @socket.on("end")
    async def end(connection):
        calls.append("end")
        connection.close(4000, "enough")

    ws = await (await serve(socket)).connect("/x/")
    for _ in range(3):
        await ws.send_str('{"event":"end"}')

    assert await close_of(ws) == 4000
    await until(lambda: book.closes)
    assert (book.codes, calls) == ([4000], ["end"])


async def test_what_a_client_sent_before_it_left_is_handled(serve, until):
    """An event and a close right behind it: the event counts."""
    socket = EventSocket("/x/")
    book = Book(socket)
    said = []
    socket.on("say")(lambda connection, data: said.append((data, len(book.closes))))

    ws = await (await serve(socket)).connect("/x/")
    for number in range(3):
        await ws.send_json({"event": "say", "data": number})
    await ws.close()

    await until(lambda: book.closes)
    assert said == [(0, 0), (1, 0), (2, 0)]


async def test_only_the_hooks_of_who_greeted_say_goodbye(serve, until):
    """A module's open hooks ended, the socket's own failed: the module's close hooks run
    with 1011, the socket's own do not; one close hook's failure does not stop another."""
    module, socket = EventModule("m"), EventSocket("/x/")
    of_module, of_socket = Book(module), Book(socket)

    @module.on_close
    def fail(connection, code):
        raise ZeroDivisionError

    last = []
    module.on_close(lambda connection, code: last.append(code))

    @socket.on_open
    async def break_off(connection):
        raise ZeroDivisionError

    socket.bind(module)
    served = await serve(socket)
    ws = await served.connect("/x/")

    assert await close_of(ws) == 1011
    await until(lambda: last)
    assert (of_module.codes, of_socket.codes, last) == ([1011], [], [1011])
    assert served.engine.metrics["event_hook_errors"] == 1


async def test_a_dead_peer_does_not_hold_up_the_others(serve, settings, site, until):
    """T-7: one client reads nothing; the others get everything, and it is closed."""
    settings.REDIS_PUBSUB = site | {"limits": {"send_buffer_bytes": 20_000}}
    socket = EventSocket("/x/")
    book = Book(socket)
    served = await serve(socket)
    dead = await served.connect("/x/")
    dead._response.connection.transport.pause_reading()
    ws = await served.connect("/x/")
    await until(lambda: len(book.opens) == 2)

    blob = "x" * 500_000
    for number in range(40):
        await socket.emit("blob", [number, blob])
        heard = await ws.receive_json(timeout=10)
        assert heard["data"][0] == number
    await until(lambda: book.closes, 15)
    assert book.codes == [3008]
    assert served.engine.metrics["slow_disconnects"] == 1


@pytest.mark.slow
async def test_a_thousand_plain_requests_leave_nothing(serve, until):
    """T-7: 426 each; nothing listens, and an emit afterwards reaches who is there."""
    socket = EventSocket("/x/")
    served = await serve(socket)
    for _ in range(20):
        requests = [served.http.get(served.url + "/x/") for _ in range(50)]
        answers = await asyncio.gather(*requests)
        assert {answer.status for answer in answers} == {426}
        for answer in answers:
            answer.release()
    assert not any("event:" in name for name in served.engine.hub.channels)
    assert len(served.engine.part(Connections)) == 0

    ws = await served.connect("/x/")
    await until(lambda: any("event:" in name for name in served.engine.hub.channels))
    await ws.send_str("{")
    await ws.receive_json(timeout=10)
    await socket.emit("there", 1)
    assert await ws.receive_json(timeout=10) == {"event": "there", "data": 1}


async def test_an_evil_origin_is_refused(serve):
    """T-6: as for every handler, by default."""
    served = await serve(EventSocket("/x/"))

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await served.connect("/x/", headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403


async def test_a_peer_that_answers_no_ping_is_given_up(serve, settings, site, until):
    """W-11: its packets are lost, its connection is not closed: the heartbeat ends it."""
    settings.REDIS_PUBSUB = site | {"limits": {"heartbeat_s": 0.2}}
    socket = EventSocket("/x/")
    book = Book(socket)
    served = await serve(socket)
    dead = await served.connect("/x/", autoping=False)
    await until(lambda: book.opens)

    await until(lambda: book.closes)
    assert book.codes == [1006]
    assert len(served.engine.part(Connections)) == 0
    await dead.close()


async def test_what_is_no_handshake_is_answered_as_http(serve, until):
    """W-14: 426 to a plain GET, 400 to a broken handshake; hooks hear of neither."""
    socket = EventSocket("/x/", protocols=["v1"])
    book = Book(socket)
    served = await serve(socket)

    plain = await served.http.get(served.url + "/x/")
    broken = await served.http.get(
        served.url + "/x/", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
    )
    assert (plain.status, broken.status) == (426, 400)
    assert plain.headers["Upgrade"] == "websocket"
    ws = await served.connect("/x/", protocols=["v9", "v1"])
    assert ws.protocol == "v1"
    await ws.close()
    await until(lambda: book.closes)
    assert len(book.opens) == 1


@pytest.mark.may_block(reason="stops and starts a Redis")
async def test_without_redis_a_client_is_told_to_try_again(serve, settings, until):
    """M-1: nobody is let in who could not be reached; no hook has run, and it works once
    Redis is back."""
    with RedisServer() as redis:
        limits = {"subscribe_timeout_s": 0.5}
        settings.REDIS_PUBSUB = {"url": redis.url, "limits": limits}
        socket = EventSocket("/x/")
        book = Book(socket)
        served = await serve(socket)
        first = await served.connect("/x/")
        await until(lambda: book.opens)
        await first.close()
        await until(lambda: not any("event" in name for name in served.engine.hub.channels))
        redis.kill()
        assert await close_of(await served.connect("/x/")) == 1013
        assert (len(book.opens), len(book.closes)) == (1, 1)

        redis.start()
        await until(lambda: served.engine.hub.broker.is_connected, 20)
        again = await served.connect("/x/")
        await until(lambda: len(book.opens) == 2)
        await again.close()
