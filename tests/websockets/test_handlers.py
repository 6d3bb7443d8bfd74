"""Handlers over real sockets: what they get, what ends them, what goes wrong."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import websocket, websocket_pubsub
from redis_pubsub.models import Channel
from redis_pubsub.web.connections import Connections
from tests.shop.models import Message, Tag

pytestmark = pytest.mark.django_db(transaction=True)


async def end_of(ws):
    """The close code a client sees."""
    async with asyncio.timeout(5):
        while True:
            message = await ws.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
                return ws.close_code


async def test_an_echo_handler_answers_and_its_return_closes(serve):
    """P-8, P43 (1.0's test_websocket_wrapper): receive one, send one, close 1000."""

    @websocket("/echo")
    async def echo(ws, params, **kwargs):
        message = await ws.receive()
        ws.send_str(message.data)

    served = await serve(echo)
    ws = await served.connect("/echo/")
    await ws.send_str("hello")

    assert await ws.receive_str() == "hello"
    assert await end_of(ws) == 1000


async def test_a_generator_coroutine_of_2016_still_serves(serve, user, site):
    """P-8: `yield from` handlers and callbacks, as 1.0's README writes them."""
    channel = await Channel.objects.acreate(name="messages")
    subscription = await channel.asubscribe(user)

    @websocket_pubsub("/messages")
    def pusher(ws, params, manager, **kwargs):
        reader = subscription.get_reader(manager=manager)

        @reader.callback
        def callback(channel_name, message):
            ws.send_str(json.dumps({channel_name: message}))
            return True

        listener = yield from reader.listen()
        yield from ws.send_str("ready")
        yield from listener

    served = await serve(pusher)
    ws = await served.connect("/messages")
    assert await ws.receive_str() == "ready"
    await apublish("messages", "x")

    assert await ws.receive_json() == {"messages": "x"}
    await ws.close()


async def test_a_plain_function_is_refused_as_a_handler():
    """It would block the loop: the error names it at the decorator."""
    with pytest.raises(TypeError, match="async def"):

        @websocket("/x")
        def handler(ws, params): ...


async def test_a_pubsub_handler_gets_a_manager_and_any_model(serve, user):
    """P-8, P34 (1.0's test_websocket_pubsub_wrapper): a publish reaches the socket, of a
    model that is not publishable too."""
    channel = await Channel.objects.acreate(name="any")
    subscription = await channel.asubscribe(user)
    tag = await Tag.objects.acreate(name="t")

    @websocket_pubsub("/any")
    async def handler(ws, params, manager):
        reader = subscription.get_reader(manager)
        reader.callback(lambda name, value: ws.send_json({name: value}))
        listener = await reader.listen()
        ws.send_str("ready")
        await listener

    served = await serve(handler)
    ws = await served.connect("/any")
    await ws.receive_str()
    await channel.apublish(tag)

    assert await ws.receive_json() == {
        "any": [{"model": "shop.tag", "pk": tag.pk, "fields": {}}]
    }
    await ws.close()


async def test_the_path_gives_parameters_and_the_query_too(serve):
    """C-12, P39: one multidict of both; repeated keys stay."""

    @websocket("/room/{name}/")
    async def room(ws, params, **kwargs):
        await ws.send_json({"name": params["name"], "x": params.getall("x", [])})

    served = await serve(room)
    ws = await served.connect("/room/blue?x=1&x=2")

    assert await ws.receive_json() == {"name": "blue", "x": ["1", "2"]}


@pytest.mark.parametrize(
    ("route", "prefix", "slash", "mounted"),
    [
        ("/hello", "", True, "/hello/"),
        ("hello", "", True, "/hello/"),
        ("hello/world", "", True, "/hello/world/"),
        ("/hello/world/", "", True, "/hello/world/"),
        ("/", "", True, "/"),
        ("/hello", "ws", True, "/ws/hello/"),
        ("/hello", "/ws", True, "/ws/hello/"),
        ("/", "ws", True, "/ws/"),
        ("/", "ws", False, "/ws/"),
        ("/hello", "", False, "/hello"),
        (None, "", True, "/handler/"),
    ],
)
async def test_prefix_and_slash_make_the_path_and_both_forms_answer(
    serve, settings, site, route, prefix, slash, mounted
):
    """P-10 (1.0's test_clean_route), and a browser needs no redirect."""
    settings.REDIS_PUBSUB = site | {"websocket_url_prefix": prefix, "append_slash": slash}

    @websocket(route)
    async def handler(ws, params):
        await ws.send_str("here")

    assert handler.route[:2] == ("GET", mounted)
    served = await serve(handler)
    for path in {mounted, mounted.rstrip("/") or "/", mounted.rstrip("/") + "/"}:
        ws = await served.connect(path)
        assert await ws.receive_str() == "here"


async def test_a_handler_mounts_in_any_aiohttp_application(serve, site):
    """T-10, P35: `app.router.add_route(*handler.route)`."""
    from redis_pubsub.contrib.websockets import setup

    @websocket("/by-hand")
    async def handler(ws, params):
        await ws.send_str("here")

    app = setup(handlers=[])
    app.router.add_route(*handler.route)
    served = await serve(app=app)

    ws = await served.connect("/by-hand/")
    assert await ws.receive_str() == "here"


async def test_sends_are_in_order_awaited_or_not_from_anywhere(serve):
    """Without `await`, with it, from a callback's thread and from another: one order each,
    nothing lost."""

    @websocket("/send")
    async def handler(ws, params):
        ws.send_str("a")
        await ws.send_str("b")
        ws.send_bytes(b"c")
        ws.send_json({"d": 1})
        await asyncio.to_thread(lambda: [ws.send_str(f"t{n}") for n in range(20)])
        await ws.send_str("end")

    served = await serve(handler)
    ws = await served.connect("/send")

    assert await ws.receive_str() == "a"
    assert await ws.receive_str() == "b"
    assert await ws.receive_bytes() == b"c"
    assert await ws.receive_json() == {"d": 1}
    assert [await ws.receive_str() for _ in range(20)] == [f"t{n}" for n in range(20)]
    assert await ws.receive_str() == "end"


async def test_sending_something_else_than_text_is_a_type_error(serve, caplog):
    """As aiohttp has it, at the call."""

    @websocket("/wrong")
    async def handler(ws, params):
        ws.send_str(5)

    served = await serve(handler)
    assert await end_of(await served.connect("/wrong")) == 1011
    assert "takes a str, not int" in caplog.text


async def test_forward_needs_no_callback(serve):
    """The fast path: payload bytes as text frames, in order."""

    @websocket_pubsub("/forward")
    async def handler(ws, params, manager):
        await manager.forward(ws, "a", "b")
        ws.send_str("ready")
        await ws.receive()

    served = await serve(handler)
    ws = await served.connect("/forward")
    await ws.receive_str()
    for number in range(100):
        await apublish("a", {"n": number})

    assert [(await ws.receive_json())["n"] for _ in range(100)] == list(range(100))
    await apublish("b", "other")
    assert await ws.receive_json() == "other"
    await ws.close()


async def test_a_clients_close_is_noticed_at_once(serve, until):
    """B18: a handler that only awaits its listener never reads; the close handshake is
    done, and the subscription gone, all the same."""
    ended = asyncio.Event()

    @websocket_pubsub("/listen")
    async def handler(ws, params, manager):
        (reader,) = await manager.forward(ws, "news")
        ws.send_str("ready")
        try:
            await reader.future
        finally:
            ended.set()

    served = await serve(handler)
    ws = await served.connect("/listen")
    await ws.receive_str()

    await asyncio.wait_for(ws.close(), 1)
    await asyncio.wait_for(ended.wait(), 1)

    assert ws.close_code == 1000
    await until(lambda: "news" not in served.engine.hub.channels)
    await until(lambda: len(served.engine.part(Connections)) == 0)


async def test_a_handler_that_ignores_its_clients_leave_is_ended(
    serve, settings, site, until, caplog
):
    """It has a grace, then it is cancelled and named in the log."""
    settings.REDIS_PUBSUB = site | {"limits": {"handler_grace_s": 0.05}}

    @websocket("/forever")
    async def handler(ws, params):
        await asyncio.Event().wait()

    served = await serve(handler)
    ws = await served.connect("/forever")
    await ws.close()

    await until(lambda: len(served.engine.part(Connections)) == 0)
    assert served.engine.metrics["handlers_cancelled"] == 1
    assert "handler" in caplog.text


async def test_a_handler_that_raises_is_1011_with_a_traceback(serve, caplog):
    """P-19, B16: the log has the handler's name and the traceback; the client 1011."""

    @websocket("/broken")
    async def broken(ws, params):
        raise RuntimeError("my bug")

    served = await serve(broken)

    assert await end_of(await served.connect("/broken")) == 1011
    assert "my bug" in caplog.text and "broken" in caplog.text
    assert served.engine.metrics["handler_errors"] == 1


async def test_the_orm_on_the_loop_is_1011_and_named(serve, caplog, user):
    """P-19, bad input: the log line has handler, line and the name to write instead."""

    @websocket("/orm")
    async def blocking_handler(ws, params):
        Channel.objects.get(name="x")

    served = await serve(blocking_handler)

    assert await end_of(await served.connect("/orm")) == 1011
    (record,) = [r for r in caplog.records if "event loop" in r.message]
    assert "blocking_handler" in record.message and "test_handlers.py:" in record.message
    assert 'Channel.objects.get(name="x")' in record.message and "aget" in record.message


async def test_the_orms_async_names_work_in_a_handler(serve, user):
    """`aget`, `acreate`, `async for`: on the loop, in the pool's threads."""
    await (await Channel.objects.acreate(name="mine")).asubscribe(user)

    @websocket("/async")
    async def handler(ws, params):
        subscription = await user.subscriptions.aget(channel__name="mine")
        names = [s.channel.name async for s in user.subscriptions.all()]
        await ws.send_json([subscription.channel.name, names])

    served = await serve(handler)
    ws = await served.connect("/async")
    assert await ws.receive_json() == ["mine", ["mine"]]


async def test_a_slow_query_of_one_socket_delays_no_other(serve, user):
    """P-19, B4: while one handler's query hangs, another's answers."""
    import threading

    from asgiref.sync import sync_to_async

    gate = threading.Event()

    @websocket("/slow")
    async def slow(ws, params):
        await ws.send_str("started")
        await sync_to_async(gate.wait)(5)

    @websocket("/quick")
    async def quick(ws, params):
        await ws.send_str(str(await Channel.objects.acount()))

    served = await serve(slow, quick)
    waiting = await served.connect("/slow")
    await waiting.receive_str()

    ws = await served.connect("/quick")
    assert await asyncio.wait_for(ws.receive_str(), 2) == "0"
    gate.set()


async def test_a_handler_that_never_receives_is_bounded(serve, settings, site):
    """Bad input: 64 messages or 1 MiB wait, then close 1008, counted."""

    @websocket("/deaf")
    async def deaf(ws, params):
        await asyncio.Event().wait()

    settings.REDIS_PUBSUB = site | {"limits": {"handler_grace_s": 0.05}}
    served = await serve(deaf)
    ws = await served.connect("/deaf")
    for _ in range(65):
        await ws.send_str("x")

    assert await end_of(ws) == 1008
    assert served.engine.metrics["unread_disconnects"] == 1


async def test_a_client_that_does_not_read_is_closed_with_3008(
    serve, settings, site, until
):
    """Never unbounded: over the send buffer the connection is slow, counted and closed;
    the others get everything."""
    settings.REDIS_PUBSUB = site | {"limits": {"send_buffer_bytes": 100_000}}

    @websocket_pubsub("/news")
    async def news(ws, params, manager):
        await manager.forward(ws, "news")
        ws.send_str("ready")
        await ws.receive()

    served = await serve(news)
    stalled = await served.connect("/news", max_msg_size=0)
    reading = await served.connect("/news", max_msg_size=0)
    for ws in (stalled, reading):
        await ws.receive_str()
    stalled._response.connection.transport.pause_reading()

    count = 0
    while not served.engine.metrics["slow_disconnects"]:
        await apublish("news", "x" * 50_000)
        count += 1
        assert count < 1_000
        assert len(await reading.receive_str()) == 50_002
    assert served.engine.hub.channels["news"] >= 1
    stalled._response.connection.transport.resume_reading()
    assert await end_of(stalled) == 3008


async def test_a_callback_must_not_receive(serve, user, caplog, until):
    """P44: the handler receives, and a callback that tries is told so."""
    channel = await Channel.objects.acreate(name="c")
    subscription = await channel.asubscribe(user)

    @websocket_pubsub("/receive")
    async def handler(ws, params, manager):
        reader = subscription.get_reader(manager)

        @reader.callback
        async def callback(name, value):
            await ws.receive()

        await reader.listen()
        ws.send_str("ready")
        await ws.receive()

    served = await serve(handler)
    ws = await served.connect("/receive")
    await ws.receive_str()
    await apublish("c", 1)
    await until(lambda: served.engine.metrics["callback_errors"])

    assert "a callback must not" in caplog.text
    await ws.close()


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_plain_request_on_a_socket_url_is_426(serve, method):
    """W-14, B17: without Django behind, a readable body."""

    @websocket("/socket")
    async def handler(ws, params): ...

    served = await serve(handler)
    response = await served.http.request(method, served.url + "/socket/")

    assert response.status == 426 and response.headers["Upgrade"] == "websocket"
    assert "new WebSocket(url)" in await response.text()


async def test_redis_down_while_subscribing_is_1013(serve, settings, site):
    """P-18: a bounded wait, then "try again later"."""
    settings.REDIS_PUBSUB = site | {
        "url": "unix:///nowhere/redis.sock",
        "limits": {"subscribe_timeout_s": 0.1},
    }

    @websocket_pubsub("/news")
    async def news(ws, params, manager):
        await manager.forward(ws, "news")

    served = await serve(news)
    ws = await served.connect("/news")
    message = await ws.receive()

    assert (ws.close_code, message.extra) == (1013, "try again later")


async def test_a_close_reason_is_cut_to_what_a_frame_holds(serve):
    """Row 57: 123 bytes, cut between characters."""

    @websocket("/bye")
    async def bye(ws, params):
        await ws.close(code=4001, message="ä" * 100)

    served = await serve(bye)
    ws = await served.connect("/bye")
    message = await ws.receive()

    assert (ws.close_code, message.extra) == (4001, "ä" * 61)


async def test_every_live_socket_gets_every_message(serve, user, until):
    """P-16, B1-B3: 100 sockets with random closes on shared and separate channels."""
    import random

    chance = random.Random(3)

    @websocket_pubsub("/hear/{channel}")
    async def hear(ws, params, manager):
        await manager.forward(ws, params["channel"], "everybody")
        ws.send_str("ready")
        await ws.receive()

    served = await serve(hear)
    sockets = {}
    for number in range(100):
        name = f"channel-{number % 5}" if number < 80 else f"own-{number}"
        ws = await served.connect(f"/hear/{name}")
        await ws.receive_str()
        sockets[ws] = name

    for number in range(60):
        for name in set(sockets.values()):
            await apublish(name, [name, number])
        await apublish("everybody", ["everybody", number])
        if number % 3 == 0:
            for ws in chance.sample(list(sockets), 4):
                del sockets[ws]
                await ws.close()

    assert len(sockets) == 20
    for ws, name in sockets.items():
        got = [await ws.receive_json() for _ in range(120)]
        assert [n for c, n in got if c == name] == list(range(60))
        assert [n for c, n in got if c == "everybody"] == list(range(60))
    for ws in sockets:
        await ws.close()
    await until(lambda: list(served.engine.hub.channels) == ["\x00control"])


async def test_a_model_saved_with_a_token_reaches_the_client(serve, user, token, until):
    """1.0's test_message_subscription and test_all_subscriptions: a discovered-style
    handler, token auth, a save in a thread, its serialised JSON with the right key."""
    message = await Message.objects.acreate(body="first")
    await message.channel.asubscribe(user)

    @websocket_pubsub("/all", authenticate=True)
    async def everything(ws, params, manager, user):
        def callback(channel_name, model):
            ws.send_str(model.serialize())

        manager.listen_to_all_subscriptions(user, callback)
        async for _ in ws:
            ws.send_str("pong")

    served = await serve(everything)
    ws = await served.connect("/all", headers={"Authorization": f"Token {token}"})
    await ws.send_str("ping")
    assert await ws.receive_str() == "pong"
    await until(lambda: served.engine.hub.is_heard(message.channel.name))
    message.body = "second"
    await message.asave()

    ((document),) = json.loads(await ws.receive_str())
    assert document["pk"] == message.pk and document["fields"]["body"] == "second"
    await ws.close()


async def test_a_frame_of_a_handler_has_its_id_to_exclude(serve):
    """W-7: `ws.id` names the sender, who hears everything but his own."""

    @websocket_pubsub("/chat")
    async def chat(ws, params, manager):
        await manager.forward(ws, "chat")
        ws.send_str("ready")
        async for message in ws:
            await apublish("chat", message.data, exclude=ws.id)

    served = await serve(chat)
    ada, bob = await served.connect("/chat"), await served.connect("/chat")
    for ws in (ada, bob):
        await ws.receive_str()
    await ada.send_str("from ada")
    assert await bob.receive_json() == "from ada"
    await bob.send_str("from bob")

    assert await ada.receive_json() == "from bob"
    await ada.close()
    await bob.close()


async def test_a_shutdown_says_goodbye(serve, site):
    """P-14: every open socket gets 1001."""
    from redis_pubsub.contrib.websockets import setup
    from redis_pubsub.contrib.websockets.server import make_runner

    @websocket("/stay")
    async def stay(ws, params):
        ws.send_str("ready")
        await asyncio.Event().wait()

    runner = make_runner(setup(handlers=[stay]))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(f"http://127.0.0.1:{runner.addresses[0][1]}/stay")
        await ws.receive_str()

        cleaning = asyncio.create_task(runner.cleanup())
        assert await end_of(ws) == 1001
        await asyncio.wait_for(cleaning, 5)
