"""Functions that run where the sockets are, chosen by the channel."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from redis_pubsub import apublish, publish
from redis_pubsub.contrib.websockets import setup, websocket_pubsub
from redis_pubsub.exceptions import HandlerConfigError
from redis_pubsub.messages import queue_channel
from redis_pubsub.receivers import checked, receiver
from redis_pubsub.web.receiving import Receiving


@websocket_pubsub("/hear/{channel}/")
async def hear(ws, params, manager, **kwargs):
    """Listens to a channel."""
    await manager.forward(ws, params["channel"])
    await ws.send_str("listening")
    async for _ in ws:
        pass


@pytest.fixture
def serve_receivers(any_site, serve):
    """A served application with receivers; several are several processes' worth."""

    async def start(*receivers):
        app = setup(handlers=[hear], receivers=list(receivers))
        return await serve(app=app)

    return start


async def listening(served, channel):
    ws = await served.connect(f"/hear/{channel}/")
    assert await ws.receive_str() == "listening"
    return ws


async def answer(ws):
    """What a receiver sent, behind the message itself."""
    assert await ws.receive_json() == "x"
    return await ws.receive_json()


def heard(served, channel):
    return served.engine.hub.is_heard(channel)


def recorder(*routes, **options):
    seen = []

    def record(message):
        seen.append((message.channel, message.payload))

    record.__qualname__ = f"record_{routes}_{options}"
    return receiver(*routes, **options)(record), seen


# -- mease's routing cases ---------------------------------------------------------------


@pytest.mark.parametrize(
    "route, matching, others",
    [
        ("websocket", ["websocket"], ["websockets", "web", "Websocket"]),
        (["news", "sport"], ["news", "sport"], ["weather"]),
        ("news:*", ["news:", "news:a", "news:a:b"], ["news", "old:news:a"]),
        (["a?", "b[12]"], ["ax", "b1"], ["a", "b3"]),
        (re.compile(r"room:\d+"), ["room:1", "room:42"], ["room:", "room:1x", "a room:1"]),
        ([re.compile("x+"), "y"], ["x", "xx", "y"], ["yy"]),
        ((), ["anything", "room:1"], []),
    ],
)
def test_routes(route, matching, others):
    """M-3: a string, a list, patterns, regular expressions, none for all."""
    record, _ = recorder(route)

    assert [channel for channel in matching if record.matches(channel)] == matching
    assert [channel for channel in others if record.matches(channel)] == []


def test_a_receiver_without_parentheses_gets_everything():
    """M-3: the bare decorator is the one without routes."""

    @receiver
    def everything(message):
        """Takes all."""

    assert everything.matches("x") and not everything.once
    assert everything("called as it is") is None


async def test_a_named_channel_is_heard_though_nobody_listens(serve_receivers, until):
    """M-3, M-4: what is published anywhere reaches the function that names the channel."""
    record, seen = recorder("orders")
    served = await serve_receivers(record)
    await until(lambda: heard(served, "orders"))

    await apublish("orders", {"id": 1})
    await until(lambda: seen)

    assert seen == [("orders", {"id": 1})]


async def test_all_matching_receivers_get_a_message(serve_receivers, until):
    """M-3: exact, list, pattern and catch-all, each once."""
    receivers = [recorder("n:1"), recorder(["n:1", "n:2"]), recorder("n:*"), recorder()]
    other, unseen = recorder("m:*")
    served = await serve_receivers(*(r for r, _ in receivers), other)
    await until(lambda: heard(served, "n:1") and heard(served, "n:2"))

    await apublish("n:1", "x")
    await until(lambda: all(seen for _, seen in receivers))

    assert [seen for _, seen in receivers] == [[("n:1", "x")]] * 4
    assert unseen == []


async def test_a_pattern_sees_channels_that_somebody_listens_to(serve_receivers, until):
    """M-3: once per message, whether one socket listens or two; nothing keeps the channel
    when they have gone."""
    record, seen = recorder("room:*")
    served = await serve_receivers(record)
    sockets = [await listening(served, "room:1") for _ in range(2)]

    await apublish("room:1", "hello")
    await until(lambda: seen)
    assert seen == [("room:1", "hello")]

    for ws in sockets:
        await ws.close()
    await until(lambda: "room:1" not in served.engine.hub.channels)


async def test_the_packages_own_channels_are_nobodys_business(serve_receivers, until):
    """A catch-all gets no control messages and no wake-ups of workers."""
    record, seen = recorder()
    served = await serve_receivers(record)
    ws = await listening(served, "last")

    from redis_pubsub import arefresh

    class User:
        pk = 1

    await arefresh(User())
    await apublish("last", 1)
    await until(lambda: seen)

    assert seen == [("last", 1)]
    assert not any(name.startswith(queue_channel("")) for name, _ in seen)
    await ws.close()


# -- sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_receiver_sends_to_the_sockets_that_listen(kind, serve_receivers, until):
    """M-3, M14: an index, not a list to be searched: the others get nothing."""
    if kind == "async":

        @receiver("room:*")
        async def forward(message, sockets):
            assert len(sockets) == 1
            sockets.send({"to all of": message.channel})

    else:

        @receiver("room:*")
        def forward(message, sockets):
            assert threading.current_thread() is not threading.main_thread()
            for socket in sockets:
                socket.send({"to all of": message.channel})

    served = await serve_receivers(forward)
    one = await listening(served, "room:1")
    other = await listening(served, "room:2")

    await apublish("room:1", "x")
    assert await answer(one) == {"to all of": "room:1"}
    await apublish("room:2", "x")
    assert await answer(other) == {"to all of": "room:2"}
    assert served.engine.metrics["receiver_errors"] == 0


# -- order, errors, bounds ---------------------------------------------------------------


async def test_the_order_of_a_channel_is_kept(serve_receivers, until):
    """One at a time per channel, also where each waits."""
    seen = []

    @receiver("line")
    async def line(message):
        await asyncio.sleep(0)
        seen.append(message.payload)

    served = await serve_receivers(line)
    await until(lambda: heard(served, "line"))

    for n in range(100):
        await apublish("line", n)
    await until(lambda: len(seen) == 100)

    assert seen == list(range(100))


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
async def test_an_error_is_logged_and_the_next_message_comes(
    error, serve_receivers, until, caplog
):
    """C-4: with its traceback, counted; whatever is raised."""
    seen = []

    @receiver("fragile")
    async def fragile(message):
        if message.payload == "bad":
            raise error("ugh")
        seen.append(message.payload)

    served = await serve_receivers(fragile)
    await until(lambda: heard(served, "fragile"))

    await apublish("fragile", "bad")
    await apublish("fragile", "good")
    await until(lambda: seen)

    assert served.engine.metrics["receiver_errors"] == 1
    assert any(record.exc_info and "fragile" in record.message for record in caplog.records)


async def test_a_receiver_that_is_behind_loses_the_newest_and_says_so(
    any_site, settings, serve, until, caplog
):
    """Bounds: at most ``reader_messages`` wait; the rest is dropped and counted."""
    settings.REDIS_PUBSUB = {**any_site, "limits": {"reader_messages": 3}}
    may_go_on, seen = asyncio.Event(), []

    @receiver("flood")
    async def slow(message):
        await may_go_on.wait()
        seen.append(message.payload)

    served = await serve(app=setup(handlers=[hear], receivers=[slow]))
    await until(lambda: heard(served, "flood"))
    for n in range(5):
        await apublish("flood", n)
    await until(lambda: served.engine.metrics["receiver_dropped"] == 2)
    may_go_on.set()
    await until(lambda: len(seen) == 3)

    assert seen == [0, 1, 2]
    assert "is behind" in caplog.text


async def test_receivers_of_one_name_are_refused():
    """C-5: told at the start, with both."""

    def make():
        @receiver("a")
        def same(message):
            """One of two."""

        return same

    with pytest.raises(HandlerConfigError, match=r"two receivers are called .*make.*same"):
        checked([make(), make()])


# -- once in the cluster -----------------------------------------------------------------


async def test_each_process_runs_a_receiver_once_for_its_own(serve_receivers, until):
    """M-3: two serving processes, two runs."""
    record, seen = recorder("both")
    first, second = await serve_receivers(record), await serve_receivers(record)
    await until(lambda: heard(first, "both") and heard(second, "both"))

    await apublish("both", 1)
    await until(lambda: len(seen) == 2)


async def test_with_once_one_process_of_all_runs_it(serve_receivers, until):
    """M-9: three serving processes hear it, one runs it."""
    seen = []

    @receiver("once", once=True)
    async def run_once(message):
        seen.append((message.payload, message.id, message.event))

    served = [await serve_receivers(run_once) for _ in range(3)]
    await until(lambda: all(heard(each, "once") for each in served))

    for n in range(20):
        await apublish("once", n, event="tick")
    await until(lambda: len(seen) >= 20)
    # What would be run twice would be in the queue by now.
    jobs = served[0].engine.hub.broker.jobs
    state = (await jobs.state([run_once.queue]))[run_once.queue]

    assert sorted(payload for payload, _, _ in seen) == list(range(20))
    assert state.waiting == state.later == 0
    assert {event for _, _, event in seen} == {"tick"}


async def test_a_receiver_that_runs_once_is_tried_again(serve_receivers, until):
    """M-9: it is a job: an error does not lose the message."""
    tries = []

    @receiver("retry", once=True)
    async def fails_once(message):
        tries.append(message.payload)
        if len(tries) == 1:
            raise RuntimeError("not now")

    served = await serve_receivers(fails_once)
    await until(lambda: heard(served, "retry"))

    await apublish("retry", "x")
    await until(lambda: len(tries) == 2)

    assert tries == ["x", "x"]


@pytest.mark.django_db(transaction=True)
async def test_receivers_hear_what_threads_publish(serve_receivers, until):
    """P-2, M-4: from a view, a shell, a task."""
    record, seen = recorder("from:thread")
    served = await serve_receivers(record)
    await until(lambda: heard(served, "from:thread"))

    await asyncio.to_thread(publish, "from:thread", [1, 2])
    await until(lambda: seen)

    assert seen == [("from:thread", [1, 2])]


async def test_lanes_are_gone_when_they_are_empty(serve_receivers, until):
    """Nothing is kept for channels that are quiet."""
    record, seen = recorder("quiet")
    served = await serve_receivers(record)
    await until(lambda: heard(served, "quiet"))
    await apublish("quiet", 1)
    await until(lambda: seen)

    await until(lambda: not served.engine.part(Receiving)._lanes)
