"""Nobody can exhaust the process through the live endpoint."""

from __future__ import annotations

import asyncio
import json

import pytest

from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live import emulation as posts
from redis_pubsub.web.admission import Admission

from .raw import Raw

pytestmark = pytest.mark.django_db(transaction=True)


async def is_served(client):
    return await client.result("ping") == {}


# -- connections -------------------------------------------------------------------------


async def test_a_user_has_so_many_connections_and_is_told_for_good(
    serve_live, user, other_user
):
    """3504: a client that comes back would only be refused again."""
    live = await serve_live(limits={"user_connections": 2})
    first = await live.connect(user)
    second = await live.connect(user)
    third = await live.open()
    await third.say({"id": 1, "connect": {"token": connection_token(user)}})

    message = await third.ws.receive(timeout=5)
    other = await live.connect(other_user)

    assert (message.data, message.extra) == (3504, "connection limit")
    assert await is_served(first) and await is_served(second) and await is_served(other)
    assert live.engine.metrics["user_full_refused"] == 1


STREAMS = {
    "websocket": ("GET", "/connection/websocket", b""),
    "sse": ("GET", "/connection/sse?cf_connect=%7B%22id%22:1,%22connect%22:%7B%7D%7D", b""),
    "http_stream": ("POST", "/connection/http_stream", b'{"id":1,"connect":{}}'),
}


@pytest.mark.parametrize("transport", STREAMS)
async def test_every_transport_needs_a_place(serve_live, transport, until):
    """Its clients retry a refusal with a growing pause, so a full process says 503."""
    live = await serve_live(limits={"connections": 1})
    method, path, body = STREAMS[transport]
    clients = [await Raw.open(live) for _ in range(2)]
    options = {"body": body}
    if transport == "websocket":
        await clients[0].upgrade(path)
    else:
        await clients[0].request(method, path, **options)

    refused = (
        await clients[1].upgrade(path)
        if transport == "websocket"
        else await clients[1].request(method, path, **options)
    )

    assert clients[0].status in (101, 200)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    for client in clients:
        client.close()
    await until(lambda: len(live.engine.part(Admission)) == 0)


# -- commands ----------------------------------------------------------------------------


async def test_commands_over_the_rate_get_error_111_and_the_others_their_answers(
    serve_live,
):
    """The connection stays: the client slows down and goes on."""
    live = await serve_live(limits={"live_commands_burst": 5, "live_commands_per_s": 20})
    client, other = await live.connect(), await live.connect()

    await client.ws.send_str(
        "\n".join(
            json.dumps({"id": n, "presence": {"channel": "room:a"}}) for n in range(2, 10)
        )
    )
    answers = {}
    while len(answers) < 8:
        reply = await client.hear()
        answers[reply["id"]] = reply.get("error")
    async with asyncio.timeout(5):
        while "error" in (await client.call("presence", channel="room:a")):
            await asyncio.sleep(0.1)

    refused = {n for n, error in answers.items() if error}
    assert refused == {6, 7, 8, 9}
    assert answers[9] == {"code": 111, "message": "too many requests", "temporary": True}
    assert live.engine.metrics["commands_refused"] >= 4
    assert await is_served(other)


async def test_who_goes_on_although_refused_is_ended_with_3013(serve_live):
    """Not for good: the client comes back later."""
    live = await serve_live(limits={"live_commands_burst": 5, "live_commands_per_s": 0.01})
    client, other = await live.connect(), await live.connect()

    for n in range(2, 20):
        await client.say({"id": n, "presence": {"channel": "room:a"}})
    while (message := await client.ws.receive(timeout=5)).type is message.type.TEXT:
        pass

    assert (client.ws.close_code, message.extra) == (3013, "too many requests")
    assert await is_served(other)


async def test_a_thousand_pongs_and_nothing_else_are_a_flood(serve_live):
    """They are frames to parse like any other."""
    live = await serve_live(limits={"live_commands_burst": 50, "live_commands_per_s": 0.01})
    client = await live.connect()

    for _ in range(200):
        await client.ws.send_str("{}")
    message = await client.ws.receive(timeout=5)

    assert message.data == 3013


async def test_a_message_that_has_no_answer_is_not_dropped_in_silence(serve_live):
    """The connection ends instead."""
    live = await serve_live(limits={"live_commands_burst": 5, "live_commands_per_s": 0.01})
    client = await live.connect()

    await client.ws.send_str("\n".join(['{"send":{"data":1}}'] * 8))
    message = await client.ws.receive(timeout=5)

    assert message.data in (3013, 3508)


async def test_ten_thousand_channels_on_one_socket_are_128_and_named_errors(live):
    """Then the client is slowed down, and cut off if it goes on."""
    client, other = await live.connect(), await live.connect()

    for begin in range(0, 10_000, 500):
        await client.ws.send_str(
            "\n".join(
                json.dumps({"id": n + 2, "subscribe": {"channel": f"room:{n}"}})
                for n in range(begin, begin + 500)
            )
        )
    codes = set()
    while (message := await client.ws.receive(timeout=10)).type is message.type.TEXT:
        for line in message.data.splitlines():
            codes.add(json.loads(line).get("error", {}).get("code", 0))
        assert len(live.engine.hub.channels) <= 128 + 2

    assert codes == {0, 106, 111}
    assert client.ws.close_code == 3013
    assert await is_served(other)


@pytest.mark.parametrize(
    "said",
    [
        '{"id":1,"subscribe":{"channel":"room:a"}}',
        '{"id":1,"connect":{}}\n{"id":2,"connect":{}}',
        '{"id":1,"connect":{}}\n{"connect":{}}',
        '{"id":1,"connect":{}}\n{"id":2}',
        '{"id":1,"connect":{}}\n{"subscribe":{"channel":"room:a"}}',
    ],
)
async def test_commands_in_a_wrong_order_or_twice_end_the_connection(live, said):
    """3501, for good: such a client is broken."""
    client = await live.open()

    await client.ws.send_str(said)
    while (message := await client.ws.receive(timeout=5)).type is message.type.TEXT:
        pass

    assert client.ws.close_code == 3501


async def test_a_thousand_ends_of_subscriptions_there_are_none_of_change_nothing(live):
    """Each is answered, as the protocol has it."""
    client = await live.connect()

    for n in range(500):
        assert await client.result("unsubscribe", channel=f"room:{n}") == {}

    assert await is_served(client)


async def test_a_stream_of_bytes_is_cut_off(serve_live):
    """However few commands it is."""
    live = await serve_live(limits={"live_bytes_per_s": 1_000, "live_bytes_burst": 140_000})
    client, other = await live.connect(), await live.connect()

    for n in range(2, 8):
        data = "x" * 50_000
        await client.say({"id": n, "publish": {"channel": "room:a", "data": data}})
    while (message := await client.ws.receive(timeout=5)).type is message.type.TEXT:
        pass

    assert client.ws.close_code == 3013
    assert live.engine.metrics["flood_disconnects"] == 1
    assert await is_served(other)


async def test_history_comes_in_pages_however_much_is_asked_for(serve_live):
    """A limit of 10^9 is one of recovery_messages."""
    live = await serve_live(limits={"recovery_messages": 3})
    client = await live.connect()
    for n in range(6):
        await live.publish("room:a", n)

    pages = [
        await client.result("history", channel="room:a", limit=limit)
        for limit in (10**9, -1, 2)
    ]

    assert [len(page["publications"]) for page in pages] == [3, 3, 2]


async def test_presence_of_a_crowd_is_refused_and_its_number_told(serve_live):
    """106 instead of megabytes; presence_stats still answers."""
    live = await serve_live(limits={"presence_members": 1})
    clients = [await live.connect() for _ in range(2)]
    for client in clients:
        await client.result("subscribe", channel="room:a")

    async with asyncio.timeout(5):
        while (await client.result("presence_stats", channel="room:a"))["num_clients"] < 2:
            await asyncio.sleep(0.01)
    reply = await client.call("presence", channel="room:a")

    assert reply["error"]["code"] == 106


@pytest.mark.parametrize(("size", "code"), [(10_000, 3500), (1_000_000, 1009)])
async def test_what_others_are_told_of_a_client_is_bounded_by_its_token(
    live, user, size, code
):
    """Info comes from tokens alone, and one over 8,192 characters is none."""
    token = connection_token(user, info="x" * size)
    client = await live.open()

    await client.say({"id": 1, "connect": {"token": token}})
    message = await client.ws.receive(timeout=5)

    assert message.data == code


# -- streams -----------------------------------------------------------------------------


async def stream_of(live):
    """A connected HTTP stream, and the connect reply."""
    client = await Raw.open(live)
    await client.request("POST", "/connection/http_stream", body=b'{"id":1,"connect":{}}')
    (reply,) = await client.replies()
    return client, reply["connect"]


async def post(live, connect, *commands):
    body = {
        "session": connect["session"],
        "node": connect["node"],
        "data": "\n".join(map(json.dumps, commands)),
    }
    async with live.http.post(f"{live.url}/emulation", json=body) as answer:
        return answer.status, answer.headers.get("Retry-After")


async def test_posts_of_a_stream_are_counted_where_they_come_in(serve_live):
    """429 before they go anywhere; another stream's pass."""
    live = await serve_live(limits={"live_commands_burst": 3, "live_commands_per_s": 0.1})
    (client, connect), (other, others) = await stream_of(live), await stream_of(live)

    answers = [await post(live, connect, {"id": n, "ping": {}}) for n in range(2, 7)]

    assert [status for status, _ in answers] == [204, 204, 204, 429, 429]
    assert int(answers[-1][1]) in range(8, 11)
    assert (await post(live, others, {"id": 2, "ping": {}}))[0] == 204
    assert live.engine.metrics["posts_refused"] == 2
    client.close()
    other.close()


async def test_an_address_whose_posts_are_none_is_not_listened_to(serve_live):
    """Before the body is read."""
    live = await serve_live(
        trusted_proxies=(),
        limits={"address_connects_burst": 2, "address_connects_per_s": 0.1},
    )

    answers = []
    for _ in range(4):
        async with live.http.post(f"{live.url}/emulation", data=b"nonsense") as answer:
            answers.append(answer.status)

    assert answers == [400, 400, 429, 429]


async def test_an_idle_stream_has_no_timer_of_its_own(live, monkeypatch):
    """One for all of them looks whether their clients are still there."""
    monkeypatch.setattr(posts, "LOOK_S", 3_600)
    streams = [await stream_of(live) for _ in range(5)]
    streams += [await stream_of(live) for _ in range(20)]

    loop = asyncio.get_running_loop()
    soon = loop.time() + 60
    due = [each for each in loop._scheduled if each.when() < soon and not each.cancelled()]

    # The process has a few for its own; aiohttp's keep-alive is over a minute away.
    assert len(due) < 20
    for client, _ in streams:
        client.close()
    for line in list(live.engine.part(posts.PostOffice)._lines.values()):
        line.abort()


async def test_a_stream_whose_client_left_is_noticed(live, until):
    """Although nothing is sent to it."""
    client, _ = await stream_of(live)
    assert len(live.server) == 1

    client.close()

    await until(lambda: len(live.server) == 0)
