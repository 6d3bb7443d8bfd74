"""Functions of the site that clients call, and messages they send it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied, ValidationError

from redis_pubsub.contrib.live import RPCError, on_message, rpc
from redis_pubsub.exceptions import InvalidPayload

with_database = pytest.mark.django_db(transaction=True)


@dataclass
class Move:
    x: int
    y: int = 0


def procedures(gate, taken):
    @rpc("add")
    async def add(user, data):
        return sum(data)

    @rpc()
    def whoami(user, data):
        return {"user": user and user.username, "thread": threading.current_thread().name}

    @rpc("move")
    def move(user, data: Move):
        return [data.x, data.y]

    @rpc("raise")
    async def raising(user, data):
        raise {
            "own": RPCError(1_000, "no luck", temporary=True),
            "denied": PermissionDenied("no"),
            "invalid": ValidationError("must be blue"),
            "payload": InvalidPayload("of another call"),
            "bug": RuntimeError("the procedure is broken"),
        }[data]

    @rpc("unencodable")
    async def unencodable(user, data):
        return object() if data else "\ud800"

    @rpc("wait")
    async def wait(user, data):
        await gate.wait()
        return data

    @on_message
    async def take(user, data):
        if data == "raise":
            raise RuntimeError("taking is broken")
        name = await sync_to_async(lambda: threading.current_thread().name)()
        taken.append((data, name))

    return [add, whoami, move, raising, unencodable, wait, take]


@pytest.fixture
def gate():
    return asyncio.Event()


@pytest.fixture
def taken():
    return []


@pytest.fixture
async def calling(serve_live, gate, taken):
    return await serve_live(*procedures(gate, taken), limits={"live_calls": 2})


@with_database
async def test_procedures_are_called_with_user_and_data(calling, user):
    """Coroutines on the loop, plain functions in a database thread, data as annotated."""
    ada, nobody = await calling.connect(user), await calling.connect()

    assert await ada.result("rpc", method="add", data=[1, 2]) == {"data": 3}
    answer = (await ada.result("rpc", method="whoami"))["data"]
    assert answer["user"] == "ada" and "redis-pubsub-db" in answer["thread"]
    assert (await nobody.result("rpc", method="whoami"))["data"]["user"] is None
    assert await ada.result("rpc", method="move", data={"x": 1}) == {"data": [1, 0]}


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("unknown", None, 104),
        ("", None, 104),
        ("take", None, 104),
        ("move", {"y": 1}, 107),
        ("move", {"x": "1"}, 107),
        ("raise", "own", 1_000),
        ("raise", "denied", 103),
        ("raise", "invalid", 107),
    ],
)
async def test_a_call_that_fails_on_purpose_has_its_code(
    calling, caplog, method, data, code
):
    """Nothing of it is in the log."""
    client = await calling.connect()

    reply = await client.call("rpc", method=method, data=data)

    assert reply["error"]["code"] == code
    assert reply["error"].get("temporary", False) == (code == 1_000)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("raise", "bug"),
        ("raise", "payload"),
        ("raise", "x"),
        ("unencodable", 0),
        ("unencodable", 1),
    ],
)
async def test_a_broken_procedure_is_our_fault(calling, caplog, method, data):
    """100 and a traceback; the client learns nothing of the inside, and stays."""
    client = await calling.connect()

    reply = await client.call("rpc", method=method, data=data)

    assert reply["error"] == {
        "code": 100,
        "message": "internal server error",
        "temporary": True,
    }
    assert "Traceback" in caplog.text
    assert await client.result("rpc", method="add", data=[1]) == {"data": 1}


async def test_without_procedures_nothing_can_be_called(live):
    """108 rather than 104: the site has no rpc at all."""
    client = await live.connect()

    assert await client.error("rpc", method="add") == 108


async def test_calls_run_beside_each_other_up_to_a_number(calling, gate):
    """A slow one holds up nobody; more than ``live_calls`` at once are 111, temporary."""
    client = await calling.connect()
    slow = await client.say(*({"rpc": {"method": "wait", "data": n}} for n in (1, 2)))

    reply = await client.call("rpc", method="add", data=[1])
    assert reply["error"]["code"] == 111 and reply["error"]["temporary"] is True
    await client.subscribe("room:1")
    gate.set()
    for n, command_id in enumerate(slow, 1):
        assert (await client.reply_to(command_id))["rpc"] == {"data": n}
    assert await client.result("rpc", method="add", data=[1]) == {"data": 1}


async def test_a_call_ends_with_its_connection(calling, gate, caplog, until):
    """Nothing of it stays behind, and nothing is logged."""
    client = await calling.connect()
    (connection,) = calling.connections
    await client.say({"rpc": {"method": "wait"}})
    await until(lambda: connection._calls)

    await client.ws.close()

    await until(lambda: not connection._calls)
    assert len(calling.server) == 0 and "Traceback" not in caplog.text


async def test_messages_are_taken_in_order_and_get_no_answer(calling, taken, caplog):
    """`send`: also with an id; one that fails is logged, and the next is taken. Async
    database calls run in the pool."""
    client = await calling.connect()

    await client.ws.send_str(
        "\n".join(
            [
                '{"send":{"data":1}}',
                '{"send":{"data":"raise"}}',
                '{"id":9,"send":{"data":{"n":2}}}',
                '{"send":{}}',
            ]
        )
    )

    assert await client.silent() == []
    assert [data for data, _ in taken] == [1, {"n": 2}, None]
    assert all("redis-pubsub-db" in name for _, name in taken)
    assert "taking is broken" in caplog.text


async def test_messages_that_nobody_takes_end_the_connection(live):
    """§3: 3508."""
    client = await live.connect()

    await client.ws.send_str('{"send":{"data":1}}')

    assert await client.ended() == (3508, "not available")
