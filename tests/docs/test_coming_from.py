"""docs/howto/coming-from.rst: what others do, in our words, over real connections."""

from __future__ import annotations

import json
import logging
import unittest

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub import apublish
from redis_pubsub.contrib.websockets import setup
from redis_pubsub.testing import eager_jobs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shown(letters):
    return letters("coming_from")


def test_the_pages_tests_pass(letters):
    """A room, who may not enter it, a job: as a site would test them."""
    case = letters("coming_from_tests").ChatTest
    result = unittest.TestResult()

    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)

    assert result.testsRun == 3
    assert [*result.errors, *result.failures] == []


def test_the_task_of_2015_runs(shown, capsys):
    """`Channel("a_task_channel").send(value=3)`, and who receives it."""
    with eager_jobs([shown.some_task]):
        shown.my_view(None)

    assert capsys.readouterr().out == "My value was 3\n"


@pytest.fixture
def live_site(settings, site):
    def use(**values):
        settings.REDIS_PUBSUB = site | {"live": {"anonymous": True}} | values

    return use


async def opened(served, *channels):
    """A live client that has asked for channels; its replies to that."""
    ws = await served.connect("/connection/websocket")
    wishes = [{"id": n, "subscribe": {"channel": c}} for n, c in enumerate(channels, 2)]
    await ws.send_str("\n".join(map(json.dumps, [{"id": 1, "connect": {}}, *wishes])))
    replies = []
    while len(replies) < 1 + len(channels):
        replies += map(json.loads, (await ws.receive_str()).split("\n"))
    return ws, replies[1:]


async def test_a_view_publishes_to_everybody_and_keeps_it(shown, serve, live_site, rf):
    """`RedisPublisher(facility=…, broadcast=True)`, `expire`, `fetch_message`."""
    live_site()
    served = await serve()
    ws, (reply,) = await opened(served, "broadcast:notices")
    assert "subscribe" in reply

    request = rf.post("/", {"text": "Lunch is ready"})
    answer = await sync_to_async(shown.Notices.as_view())(request)
    assert answer.status_code == 204
    push = json.loads(await ws.receive_str())["push"]
    assert (push["channel"], push["pub"]["data"]) == ("broadcast:notices", "Lunch is ready")

    asked = rf.get("/")
    asked.user = None
    asked.session = type("NoSession", (), {"session_key": None})()
    kept = await sync_to_async(shown.Notices.as_view())(asked)
    assert json.loads(kept.content) == {"notice": "Lunch is ready"}


async def test_a_channel_manager_is_a_function(shown, serve, live_site):
    """`can_read_channel` is an `authorize_method`; nobody gets what is for users."""
    live_site(
        authorize_method=f"{shown.__name__}.can_read",
        channels={"test": {"subscribe": "anyone"}},
    )
    served = await serve()
    _, (open_one, closed) = await opened(served, "test", "_mychannel")
    statuses = []
    for channel in ("test", "_mychannel"):
        url = f"{served.url}/events?channel={channel}"
        async with served.http.get(url) as answer:
            statuses.append(answer.status)

    assert "subscribe" in open_one
    assert closed["error"]["code"] == 103
    assert statuses == [200, 403]


async def test_the_callbacks_of_mease_run(shown, serve, site, until, caplog):
    """Opener, receiver and closer in one coroutine; what is published reaches all."""
    caplog.set_level(logging.INFO, shown.__name__)
    served = await serve(shown.shout)
    one, two = await served.connect("/shout/"), await served.connect("/shout/")
    for ws in (one, two):
        assert await ws.receive_str() == "hello"

    await one.send_str("from a client")
    for ws in (one, two):
        assert await ws.receive_json() == "from a client"
    await sync_to_async(shown.hello_world)()
    for ws in (one, two):
        assert await ws.receive_json() == "Hello world !"
    await one.close()

    await until(lambda: caplog.text.count("has left") == 1)
    await two.close()


async def test_a_sender_reaches_whom_it_means(shown, serve, user, other_user, live_site):
    """One channel, many sockets; the receiver picks."""
    from redis_pubsub.auth.tokens import connection_token

    live_site(
        channels={"orders": {"subscribe": "authenticated"}},
        live={"token_key": "a key of the test, long enough to be one"},
    )
    served = await serve(app=setup(handlers=[], receivers=[shown.to_the_buyer]))
    sockets = []
    for who in (user, other_user):
        ws = await served.connect("/connection/websocket")
        connect = {
            "id": 1,
            "connect": {"token": await sync_to_async(connection_token)(who)},
        }
        wish = {"id": 2, "subscribe": {"channel": "orders"}}
        await ws.send_str(f"{json.dumps(connect)}\n{json.dumps(wish)}")
        replies = []
        while len(replies) < 2:
            replies += (await ws.receive_str()).split("\n")
        sockets.append(ws)

    await apublish("orders", {"buyer": user.pk, "state": "sent"})

    buyers = [json.loads(await sockets[0].receive_str())["push"] for _ in range(2)]
    assert {"message": {"data": {"your order": "sent"}}} in buyers
    others = json.loads(await sockets[1].receive_str())["push"]
    assert "message" not in others


async def test_one_connection_is_addressed_and_ended(shown, serve, live_site):
    """`channel_layer.send(channel_name, …)`, and a close from outside."""
    live_site()
    served = await serve()
    await served.engine.hub.confirmed("\x00control")
    ws = await served.connect("/connection/websocket")
    await ws.send_str('{"id":1,"connect":{}}')
    connection = json.loads(await ws.receive_str())["connect"]["client"]

    await sync_to_async(shown.export_is_ready)(connection, "/export.csv")
    push = json.loads(await ws.receive_str())["push"]
    assert push["message"]["data"] == {"export": "/export.csv"}
    await sync_to_async(shown.kick)(connection)

    assert (await ws.receive()).data == 4001
