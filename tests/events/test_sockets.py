"""Event sockets in one process: frames, handlers, hooks, emit, refusals."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission

from redis_pubsub.codes import EventErrors
from redis_pubsub.contrib.events import (
    Deny,
    EventError,
    EventModule,
    EventSocket,
    EventSocketHandler,
    event,
)
from redis_pubsub.contrib.events.addresses import everywhere
from redis_pubsub.contrib.events.connection import Ear
from redis_pubsub.contrib.websockets import setup, websocket
from redis_pubsub.exceptions import BrokerUnavailable, HandlerConfigError
from redis_pubsub.frames import payload_frame
from redis_pubsub.web.outlet import Outlet

HELLO = '{"event":"hello"}'


class Said(msgspec.Struct):
    """What a client says."""

    text: str


@dataclasses.dataclass
class Point:
    """Another form of typed data."""

    x: int
    y: int = 0


@dataclasses.dataclass
class Counted:
    """Declared state of a connection."""

    count: int = 0


def frame(event: str, data: Any = None) -> dict[str, Any]:
    return {"event": event, "data": {} if data is None else data}


def error(code: Any, event: str) -> dict[str, Any]:
    return frame("error", {"code": code.code, "reason": code.reason, "event": event})


async def events(ws: aiohttp.ClientWebSocketResponse, count: int = 1) -> list[Any]:
    return [await ws.receive_json(timeout=10) for _ in range(count)]


async def ended(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(15):
        while not ws.closed:
            await ws.receive()
    return ws.close_code


async def test_events_go_both_ways(serve):
    """T-1, T-2, C-12: the envelope, handlers by name, typed data, path parameters."""
    room = EventSocket("/room/{name}/")

    @room.on("say")
    async def say(socket, data: Said):
        await socket.emit("heard", {"text": data.text, "room": socket.params["name"]})

    @room.on()
    async def move(socket, data: Point):
        socket.emit("moved", {"x": data.x, "y": data.y})

    @room.on("ping")
    async def ping(socket):
        socket.emit("pong")

    ws = await (await serve(room)).connect("/room/kitchen")
    await ws.send_json(frame("say", {"text": "hé"}))
    await ws.send_json(frame("move", {"x": 1}))
    await ws.send_str('{"event":"ping"}')

    assert await events(ws, 3) == [
        frame("heard", {"text": "hé", "room": "kitchen"}),
        frame("moved", {"x": 1, "y": 0}),
        frame("pong"),
    ]


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("{", EventErrors.BAD_JSON, ""),
        ("", EventErrors.BAD_JSON, ""),
        ("[" * 100_000, EventErrors.NO_EVENT, ""),
        ('{"event":"\\ud800"}', EventErrors.BAD_JSON, ""),
        ("[1]", EventErrors.NO_EVENT, ""),
        ('{"data":{}}', EventErrors.NO_EVENT, ""),
        ('{"event":5}', EventErrors.NO_EVENT, ""),
        ('{"event":"nothing"}', EventErrors.UNKNOWN_EVENT, "nothing"),
        ('{"event":"fail"}', EventErrors.INTERNAL, "fail"),
    ],
)
async def test_a_bad_frame_is_told_and_the_socket_stays(serve, text, code, name):
    """T-4, M-2: a code for each kind of mistake; the next event is served."""
    socket = EventSocket("/x/")

    @socket.on("say")
    async def say(socket, data: Said):
        socket.emit("said")

    @socket.on("fail")
    async def fail(socket):
        raise ZeroDivisionError

    ws = await (await serve(socket)).connect("/x/")
    await ws.send_str(text)
    await ws.send_json(frame("say", {"text": "on"}))

    assert await events(ws, 2) == [error(code, name), frame("said")]


async def test_bad_data_is_told_with_its_reason(serve):
    """T-4: data that is not what the handler's annotation wants, or is no JSON."""
    socket = EventSocket("/x/")

    @socket.on("say")
    async def say(socket, data: Said):
        socket.emit("said")

    ws = await (await serve(socket)).connect("/x/")
    await ws.send_json(frame("say", {"text": 5}))
    await ws.send_json(frame("say"))
    await ws.send_bytes(b"\x00")

    (first, second, third) = await events(ws, 3)
    assert first["data"]["code"] == second["data"]["code"] == EventErrors.BAD_DATA.code
    assert "Expected `str`, got `int`" in first["data"]["reason"]
    assert "missing required field `text`" in second["data"]["reason"]
    assert third == error(EventErrors.NO_BINARY, "")


async def test_a_handler_answers_with_a_code_of_its_own(serve):
    """`EventError` is told as it is."""
    socket = EventSocket("/x/")

    @socket.on("buy")
    def buy(socket):
        raise EventError(404, "sold out")

    ws = await (await serve(socket)).connect("/x/")
    await ws.send_str('{"event":"buy"}')

    data = {"code": 404, "reason": "sold out", "event": "buy"}
    assert await events(ws) == [frame("error", data)]


async def test_hooks_cannot_be_reached_by_a_client(serve):
    """T-5: `open`, `close` and `error` are nobody's events, and `reopen` is not `open`."""
    calls = []
    socket = EventSocket("/x/")
    socket.on_open(lambda socket: calls.append("open"))
    socket.on_close(lambda socket, code: calls.append("close"))
    names = ["open", "close", "error", "reopen", "on_open"]

    ws = await (await serve(socket)).connect("/x/")
    for name in names:
        await ws.send_json(frame(name))

    assert await events(ws, 5) == [error(EventErrors.UNKNOWN_EVENT, name) for name in names]
    assert calls == ["open"]
    for name in ("open", "close", "error"):
        with pytest.raises(ValueError, match="socket's own"):
            socket.on(name)(lambda socket: None)
        with pytest.raises(ValueError, match="socket's own"):
            socket.emit(name)


async def test_plain_handlers_keep_the_clients_order(serve):
    """M22: one after the other for each socket, whatever thread they run in, also between
    plain functions and coroutines."""
    socket = EventSocket("/x/")
    order = []

    @socket.on("plain")
    def plain(socket, data):
        order.append(data)
        socket.emit("done", data)

    @socket.on("async")
    async def coroutine(socket, data):
        order.append(data)
        await socket.emit("done", data)

    ws = await (await serve(socket)).connect("/x/")
    for number in range(40):
        await ws.send_json(frame("async" if number % 3 else "plain", number))

    assert [each["data"] for each in await events(ws, 40)] == list(range(40)) == order


async def test_a_connection_has_state_of_its_own(serve):
    """M-5: from message to message, a declared class or a namespace; `send` takes a dict,
    text and bytes."""
    declared = EventSocket("/declared/", state=Counted)
    free = EventSocket("/free/")

    @declared.on("count")
    async def count(socket):
        socket.state.count += 1
        socket.send({"count": socket.state.count})

    @free.on_open
    async def begin(socket):
        socket.state.name = "free"

    @free.on("say")
    async def say(socket):
        socket.send(socket.state.name)
        socket.send(b"\x01")

    served = await serve(declared, free)
    one, two = await served.connect("/declared/"), await served.connect("/declared/")
    for ws, times in ((one, 2), (two, 1)):
        for _ in range(times):
            await ws.send_json(frame("count"))
    other = await served.connect("/free/")
    await other.send_json(frame("say"))

    assert await events(one, 2) == [{"count": 1}, {"count": 2}]
    assert await events(two) == [{"count": 1}]
    assert (await other.receive_str(), await other.receive_bytes()) == ("free", b"\x01")


async def test_text_and_binary_messages_have_handlers(serve):
    """C-1, M-2: what is no event goes to a handler of text, if there is one."""
    socket = EventSocket("/x/", protocols=("v2", "v1"))

    @socket.on_binary
    async def binary(socket, data):
        socket.send(data[::-1])

    @socket.on_text
    def text(socket, data):
        socket.send(f"{socket.subprotocol}:{data}")

    served = await serve(socket)
    ws = await served.connect("/x/", protocols=["v1", "v9"])
    await ws.send_bytes(b"abc")
    await ws.send_str("plain")

    assert await ws.receive_bytes() == b"cba"
    assert await ws.receive_str() == "v1:plain"
    assert ws.protocol == "v1"


async def test_emit_finds_whom_it_is_for(serve, until, django_user_model, transactional_db):
    """T-3: those with the same parameters, all of the path, one connection, without the
    sender; and nobody of another path."""
    room = EventSocket("/room/{name}/")
    other = EventSocket("/other/{name}/")

    @room.on("say")
    async def say(socket, data):
        await room.emit("said", data)

    @room.on("tell")
    def tell(socket, data):
        # A plain function: sent at once, since no transaction is open.
        room.emit("told", data, exclude=socket.id)

    @room.on("who")
    async def who(socket):
        socket.emit("you", socket.id)

    served = await serve(room, other)
    paths = ["/room/a/", "/room/a/", "/room/b/", "/other/a/"]
    a1, a2, b, elsewhere = [await served.connect(path) for path in paths]
    for ws in (a1, a2, b):
        await ws.send_json(frame("who"))
    ids = [(await events(ws))[0]["data"] for ws in (a1, a2, b)]

    await a1.send_json(frame("say", 1))
    assert [await events(ws) for ws in (a1, a2)] == [[frame("said", 1)]] * 2
    await a1.send_json(frame("tell", 2))
    assert await events(a2) == [frame("told", 2)]
    await room.emit("all", 3, everywhere=True)
    assert [await events(ws) for ws in (a1, a2, b)] == [[frame("all", 3)]] * 3
    await room.emit("b", 4, params={"name": "b"})
    assert await events(b) == [frame("b", 4)]
    await room.emit("one", 5, client=ids[1])
    assert await events(a2) == [frame("one", 5)]
    await other.emit("last", everywhere=True)
    assert await events(elsewhere) == [frame("last")]

    for each in (a1, a2, b, elsewhere):
        await each.close()
    await until(lambda: not any("event:" in name for name in served.engine.hub.channels))


async def test_emit_finds_a_users_sockets(serve, user, other_user, transactional_db, token):
    """T-3: all of one user's connections to the path, and nobody else's."""
    from rest_framework.authtoken.models import Token

    box = EventSocket("/box/", authenticate=True)

    @box.on("me")
    async def me(socket):
        socket.emit("you", socket.user.username)

    served = await serve(box)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await served.connect("/box/")
    assert refused.value.status == 403
    keys = [token, token, (await Token.objects.acreate(user=other_user)).key]
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    ada, ada2, bob = [await served.connect("/box/", headers=each) for each in headers]
    for ws, name in ((ada, "ada"), (ada2, "ada"), (bob, "bob")):
        # Its handlers are called once it hears what is for it.
        await ws.send_json(frame("me"))
        assert await events(ws) == [frame("you", name)]

    await box.emit("mail", 1, user=user)
    await box.emit("mail", 2, user=other_user.pk)
    assert [await events(ws) for ws in (ada, ada2)] == [[frame("mail", 1)]] * 2
    await bob.send_json(frame("me"))
    assert await events(bob, 2) == [frame("mail", 2), frame("you", "bob")]


def test_emit_outside_a_handler_must_say_whom():
    """Two addressees, none on a path with parameters, and nobody as a user are refused."""
    room = EventSocket("/room/{name}/")

    with pytest.raises(TypeError, match="everywhere=True"):
        room.emit("said")
    with pytest.raises(TypeError, match="one of"):
        room.emit("said", client="x", everywhere=True)
    with pytest.raises(ValueError, match="logged in"):
        room.emit("said", user="")


async def test_a_permission_is_asked_anew_for_each_event(
    serve, user, transactional_db, token
):
    """M-11: refused with 103, let in once the user has it; `requires` of both kinds."""
    box = EventSocket("/box/", authenticate=True)

    @box.on("add", permission="shop.add_message")
    async def add(socket):
        socket.emit("added")

    @box.on("small", requires=lambda socket, data: data < 5)
    async def small(socket, data):
        socket.emit("took", data)

    async def is_even(socket, data):
        return data % 2 == 0

    @box.on("even", requires=is_even)
    def even(socket, data):
        socket.emit("took", data)

    ws = await (await serve(box)).connect(
        "/box/", headers={"Authorization": f"Bearer {token}"}
    )
    await ws.send_json(frame("add"))
    assert await events(ws) == [error(EventErrors.PERMISSION_DENIED, "add")]
    permission = await Permission.objects.aget(codename="add_message")
    await sync_to_async(user.user_permissions.add)(permission)
    for name, data in [("add", 0), ("small", 9), ("small", 1), ("even", 1), ("even", 2)]:
        await ws.send_json(frame(name, data))

    assert await events(ws, 5) == [
        frame("added"),
        error(EventErrors.PERMISSION_DENIED, "small"),
        frame("took", 1),
        error(EventErrors.PERMISSION_DENIED, "even"),
        frame("took", 2),
    ]


def test_a_permission_needs_somebody_to_have_it():
    """A socket without users refuses it where it is written."""
    with pytest.raises(HandlerConfigError, match="authenticate=True"):
        EventSocket("/x/").on("add", permission="shop.add_message")


async def test_modules_serve_several_sockets_under_their_names(serve):
    """T-11: two modules in one socket, one module in two; hooks of each, `emit` with the
    module's name."""
    chat, dice = EventModule("chat"), EventModule("dice")

    @chat.on("say")
    async def say(socket, data):
        await chat.emit("said", data)

    @chat.on_open
    async def greet(socket):
        socket.emit("chat.hello")

    @dice.on("say")
    def roll(socket):
        socket.emit("dice.rolled", 6)

    hall, club = EventSocket("/hall/"), EventSocket("/club/")
    hall.bind(chat)
    hall.bind(dice)
    club.bind(chat)
    served = await serve(hall, club)
    one, two = await served.connect("/hall/"), await served.connect("/club/")
    assert await events(one) == await events(two) == [frame("chat.hello")]
    await one.send_json(frame("chat.say", "hall"))
    await one.send_json(frame("dice.say"))
    await two.send_json(frame("dice.say"))
    await two.send_json(frame("chat.say", "club"))

    heard = await events(one, 2)
    assert sorted(each["event"] for each in heard) == ["chat.said", "dice.rolled"]
    assert await events(two, 2) == [
        error(EventErrors.UNKNOWN_EVENT, "dice.say"),
        frame("chat.said", "club"),
    ]
    with pytest.raises(RuntimeError, match=r"chat\.said"):
        chat.emit("said")


def test_two_handlers_of_one_event_are_refused_by_name():
    """T-2: the message names both; so for modules, binary messages and paths."""
    room = EventSocket("/room/")
    chat = EventModule("chat")

    @room.on("say")
    async def first(socket):
        pass

    with pytest.raises(HandlerConfigError, match=r"first and .*second"):

        @room.on("say")
        async def second(socket):
            pass

    room.bind(chat)
    with pytest.raises(HandlerConfigError, match="two modules named 'chat'"):
        room.bind(EventModule("chat"))
    room.on("chat.say")(first)
    chat.on("say")(first)
    with pytest.raises(HandlerConfigError, match=r"event 'chat\.say' has two handlers"):
        setup(handlers=[room])
    room.on_binary(lambda socket, data: None)
    with pytest.raises(HandlerConfigError, match="two handlers of binary"):
        room.on_binary(lambda socket, data: None)
    with pytest.raises(HandlerConfigError, match="/x/ has two handlers: event socket /x"):
        setup(handlers=[EventSocket("/x/"), websocket("x")(first)])


def test_what_cannot_be_called_is_refused_at_the_decorator():
    """T-2: too many parameters, none, or no function at all."""
    room = EventSocket("/room/")

    for bad in (lambda: None, lambda socket, data, more: None):
        with pytest.raises(TypeError, match="is called with"):
            room.on("say")(bad)
    with pytest.raises(TypeError, match="is a function"):
        room.on("say")(5)
    with pytest.raises(TypeError, match=r"\(socket, code\)"):
        room.on_close(lambda socket: None)
    with pytest.raises(TypeError, match="a path is a str"):
        EventSocket(5)


log: list[Any] = []


class Room(EventSocketHandler):
    """The class style, with everything it may have."""

    path = "/room/{name}/"
    protocols = ("v1", "v2")

    def on_connect(self):
        if self.params["name"] == "secret":
            self.deny("members only")
        self.accept("v2", headers={"X-Room": self.params["name"]})

    async def on_open(self):
        if self.params["name"] == "full":
            self.deny("full", code=4500)
        self.count = 0
        log.append(("open", self.params["name"]))

    def on_close(self, code):
        log.append(("close", self.params["name"], code, self.count))

    @event()
    async def say(self, data: Said):
        self.count += 1
        await self.events.emit("said", {"text": data.text, "count": self.count})

    @event("leave")
    def go(self):
        self.close(4001, "bye")


class LoudRoom(Room):
    """A subclass replaces a method."""

    path = "/loud/{name}/"

    @event("say")
    async def say(self, data: Said):
        self.emit("said", {"text": data.text.upper()})


async def test_a_class_serves_each_client_with_an_object_of_its_own(serve, until):
    """C-13, T-2: accept, deny before and after the upgrade, close with a code, methods by
    event, inheritance."""
    log.clear()
    served = await serve(Room, LoudRoom)
    one = await served.connect("/room/a/", protocols=["v1", "v2"])
    two = await served.connect("/room/a/")
    assert (one.protocol, one._response.headers["X-Room"]) == ("v2", "a")
    for ws in (one, one, two):
        await ws.send_json(frame("say", {"text": "hi"}))
        heard = await asyncio.gather(events(one), events(two))
        assert heard[0] == heard[1]
    assert heard[0] == [frame("said", {"text": "hi", "count": 1})]
    loud = await served.connect("/loud/b/")
    await loud.send_json(frame("say", {"text": "hi"}))
    assert await events(loud) == [frame("said", {"text": "HI"})]

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await served.connect("/room/secret/")
    assert refused.value.status == 403
    full = await served.connect("/room/full/")
    assert await ended(full) == 4500
    await one.send_json(frame("leave"))
    assert await ended(one) == 4001
    await until(lambda: ("close", "a", 4001, 2) in log)
    assert [each for each in log if "full" in each or "secret" in each] == []


async def test_a_subclass_without_a_path_takes_its_parents_place(serve):
    """It is what is served where it is listed; both at once have one path too few."""

    class QuietRoom(Room):
        @event("say")
        async def say(self, data: Said):
            self.emit("hushed")

    ws = await (await serve(QuietRoom)).connect("/room/a/")
    await ws.send_json(frame("say", {"text": "hi"}))
    assert await events(ws) == [frame("hushed")]
    with pytest.raises(HandlerConfigError, match=r"two handlers: .*Room and .*QuietRoom"):
        setup(handlers=[Room, QuietRoom])


async def test_who_is_denied_has_heard_nothing(serve, until):
    """Events of the time before the hook's answer are held, and given to who may stay."""
    gate, waiting = asyncio.Event(), []
    room = EventSocket("/room/{may}/")

    @room.on_open
    async def wait(socket):
        await room.emit("waiting")
        waiting.append(socket)
        await gate.wait()
        if socket.params["may"] == "no":
            raise Deny("no", 4403)

    served = await serve(room)
    yes, no = await served.connect("/room/yes/"), await served.connect("/room/no/")
    await until(lambda: len(waiting) == 2)
    await room.emit("secret", everywhere=True)
    gate.set()

    heard = [each["event"] for each in await events(yes, 2)]
    assert sorted(heard) == ["secret", "waiting"]
    await room.emit("after", everywhere=True)
    assert await events(yes) == [frame("after")]
    message = await no.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4403)


async def test_the_start_says_in_the_log_what_is_served(site, caplog):
    """M-12: each path with its handler, and each event with its function."""

    @websocket("/plain/")
    async def plain(ws, params):
        pass

    with caplog.at_level(logging.INFO, "redis_pubsub.websockets"):
        setup(handlers=[plain, Room])

    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("serves /plain/: ") and "plain" in line for line in lines)
    assert any(
        line.startswith("serves /room/{name}/: ")
        and "say → tests.events.test_sockets.Room.say" in line
        for line in lines
    )


async def test_the_session_of_the_cookie_is_there(serve, transactional_db, client, user):
    """A handler reads what a view has put into the session."""
    from importlib import import_module

    store = import_module("django.contrib.sessions.backends.db").SessionStore()
    store["cart"] = 3
    await sync_to_async(store.create)()
    box = EventSocket("/box/")

    @box.on("cart")
    async def cart(socket):
        socket.emit("cart", await socket.session.aget("cart"))

    ws = await (await serve(box)).connect(
        "/box/", headers={"Cookie": f"sessionid={store.session_key}"}
    )
    await ws.send_json(frame("cart"))

    assert await events(ws) == [frame("cart", 3)]


async def test_a_long_address_is_an_address(serve):
    """Parameters are the client's: however long they are, those who share them hear each
    other."""
    room = EventSocket("/room/{name}/")

    @room.on("say")
    async def say(socket, data):
        await room.emit("said", data)

    served = await serve(room)
    one, two = [await served.connect(f"/room/{'x' * 3000}/") for _ in range(2)]
    await one.send_str(json.dumps(frame("say", 1)))

    assert await events(one) == await events(two) == [frame("said", 1)]


async def test_a_message_is_framed_once_and_written_to_each(serve, until, monkeypatch):
    """T-7: for fifty sockets one frame, and nothing between the hub and the outlet."""
    framed = []

    def counting(message):
        framed.append(message.id)
        return payload_frame(message)

    monkeypatch.setattr(Ear, "framing", staticmethod(counting))
    socket = EventSocket("/x/")
    socket.on_open(lambda connection: connection.emit("ready"))
    served = await serve(socket)
    clients = await asyncio.gather(*(served.connect("/x/") for _ in range(50)))
    for ws in clients:
        await events(ws)
    await socket.emit("first")
    for ws in clients:
        await events(ws)
    framed.clear()
    await socket.emit("second")
    for ws in clients:
        assert await events(ws) == [frame("second")]

    assert len(framed) == 1
    (group,) = served.engine.hub._feeds[everywhere("/x")].groups.values()
    assert {take.__func__ for take in group._takers} == {Outlet.write}


async def test_a_full_pool_and_a_lost_redis_are_told(serve, settings, site):
    """Error 111 and 108, and the socket stays."""
    settings.REDIS_PUBSUB = site | {"limits": {"db_waiting": 0}}
    socket = EventSocket("/x/")
    socket.on("plain")(lambda connection: None)

    @socket.on("lost")
    async def lost(connection):
        raise BrokerUnavailable("Redis did not answer")

    ws = await (await serve(socket)).connect("/x/")
    for name in ("plain", "lost", "nothing"):
        await ws.send_json(frame(name))

    assert await events(ws, 3) == [
        error(EventErrors.TOO_MANY_REQUESTS, "plain"),
        error(EventErrors.NOT_AVAILABLE, "lost"),
        error(EventErrors.UNKNOWN_EVENT, "nothing"),
    ]


async def test_what_is_held_for_an_open_hook_is_bounded(serve, settings, site):
    """A hook that takes its time while much is emitted: the client is closed with 3008."""
    settings.REDIS_PUBSUB = site | {"limits": {"send_buffer_bytes": 10_000}}
    socket = EventSocket("/x/")
    began, gate = asyncio.Event(), asyncio.Event()

    @socket.on_open
    async def slow(connection):
        began.set()
        await gate.wait()

    served = await serve(socket)
    ws = await served.connect("/x/")
    await began.wait()
    for _ in range(3):
        await socket.emit("much", "x" * 6_000)

    assert await ended(ws) == 3008
    gate.set()
    assert served.engine.metrics["slow_disconnects"] == 1


async def test_an_application_of_ones_own_has_event_sockets(serve, site):
    """T-10: `setup` below a path of another aiohttp application, beside its own routes."""
    room = EventSocket("/room/{name}/")

    @room.on("say")
    async def say(socket, data):
        await room.emit("said", data)

    async def page(request):
        return web.Response(text="own page")

    outer = web.Application()
    outer.router.add_get("/", page)
    outer.add_subapp("/live/", setup(handlers=[room]))
    served = await serve(app=outer)

    assert await (await served.http.get(served.url)).text() == "own page"
    ws = await served.connect("/live/room/a/")
    await ws.send_json(frame("say", 1))
    assert await events(ws) == [frame("said", 1)]


async def test_a_client_that_was_let_in_is_written_to_directly(serve, until):
    """What was held while its hook ran comes first; after that nothing stands between."""
    socket = EventSocket("/x/")
    began, gate = asyncio.Event(), asyncio.Event()

    @socket.on_open
    async def wait(connection):
        began.set()
        await gate.wait()

    served = await serve(socket)
    ws = await served.connect("/x/")
    await began.wait()
    (group,) = served.engine.hub._feeds[everywhere("/x")].groups.values()
    await socket.emit("early")
    await until(lambda: group._takers)
    gate.set()
    assert await events(ws) == [frame("early")]
    await socket.emit("late")

    assert await events(ws) == [frame("late")]
    assert {take.__func__ for take in group._takers} == {Outlet.write}


@pytest.mark.parametrize("cookie", ["k" * 5000, "kkkkkkkk\\000", "kkkkkkkk\u00e9"])
async def test_a_cookie_that_no_session_can_have_is_none(serve, transactional_db, cookie):
    """No store is asked for it."""
    box = EventSocket("/box/")
    keys = []

    @box.on("key")
    async def key(socket):
        keys.append(socket.session.session_key)
        socket.emit("done")

    ws = await (await serve(box)).connect(
        "/box/", headers={"Cookie": f'sessionid="{cookie}"'}
    )
    await ws.send_json(frame("key"))

    assert await events(ws) == [frame("done", None)]
    assert keys == [None]
