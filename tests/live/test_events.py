"""Plain server-sent events: what a client without a library hears, byte by byte."""

from __future__ import annotations

import asyncio

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.urls import path

from redis_pubsub.auth.tickets import aissue
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live.protocol import events
from redis_pubsub.contrib.live.protocol.events import placed_block, position_in
from redis_pubsub.contrib.websockets.server import site_application
from redis_pubsub.messages import Header, Message, Position
from redis_pubsub.publishing.control import adisconnect
from redis_pubsub.web.connections import Connections

from .raw import Raw

HISTORY = {"subscribe": "anyone", "history_size": 3}
HEARTBEAT = b":\n\n"


class Events:
    """A stream of plain events over a raw connection."""

    def __init__(self, raw):
        self.raw = raw
        self.status = raw.status
        self.headers = raw.headers

    async def block(self):
        """The fields of the next block that says something, as pairs."""
        while True:
            chunk = await self.raw.chunk()
            if chunk != HEARTBEAT:
                assert chunk.endswith(b"\n\n")
                return chunk.decode()

    async def end(self):
        """What it says in the end."""
        goodbye = await self.block()
        assert await self.raw.chunk() == b""
        return goodbye


async def listen(live, query, *, path="/events", **headers):
    raw = await Raw.open(live)
    await raw.request("GET", f"{path}?{query}", **headers)
    return Events(raw)


def last_id(text):
    """What an EventSource remembers of it."""
    lines = [line for line in text.split("\n") if line.startswith("id: ")]
    return lines[-1].removeprefix("id: ")


async def test_a_channel_is_events_with_ids(live):
    """The position at once, then id, event and data of each message; never kept, never
    compressed, never buffered by nginx."""
    stream = await listen(live, "channel=room:1", Accept_Encoding="gzip")

    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["x-accel-buffering"] == "no"
    assert "no-store" in stream.headers["cache-control"]
    begin = await stream.block()
    position = await live.publish("room:1", {"n": 1}, event="hello")
    await live.publish("room:1", "two")

    assert begin == f"id: {position.epoch}:0\n\n"
    text = await stream.block()
    while text.count("data:") < 2:
        text += await stream.block()
    assert text == (
        f'id: {position.epoch}:1\nevent: hello\ndata: {{"n":1}}\n\n'
        f'id: {position.epoch}:2\ndata: "two"\n\n'
    )


async def test_who_comes_back_gets_what_was_missed_once(live):
    """``Last-Event-ID``: everything after it, nothing before it."""
    stream = await listen(live, "channel=room:1")
    begin = last_id(await stream.block())
    stream.raw.close()
    for number in range(3):
        await live.publish("room:1", number)

    again = await listen(live, "channel=room:1", Last_Event_ID=begin)
    missed = await again.block()
    third = await listen(live, "channel=room:1", Last_Event_ID=last_id(missed))

    assert [line for line in missed.split("\n") if line.startswith("data")] == [
        "data: 0", "data: 1", "data: 2"
    ]  # fmt: skip
    assert last_id(missed).endswith(":3")
    assert await third.block() == f"id: {last_id(missed)}\n\n"


async def test_a_page_says_where_it_stands_in_the_address(live):
    """``since`` as ``Last-Event-ID``, which an EventSource sends from its second attempt
    on only."""
    position = await live.publish("room:1", 1)
    await live.publish("room:1", 2)

    stream = await listen(live, f"channel=room:1&since={position.epoch}:1")

    assert "data: 2\n" in await stream.block()


async def test_who_was_away_too_long_is_told_first(serve_live):
    """``reset`` names the channel, before anything else; the id is that of now."""
    live = await serve_live(channels={"short": HISTORY})
    position = await live.publish("short", 0)
    for number in range(9):
        await live.publish("short", number)

    stream = await listen(live, "channel=short", Last_Event_ID=f"{position.epoch}:1")

    assert await stream.block() == (
        f'event: reset\ndata: {{"channel":"short"}}\n\nid: {position.epoch}:10\n\n'
    )


@pytest.mark.parametrize(
    "said", ["nonsense", "a:1,b:2", "unknown:1", "x" * 5000, "-:-", f"a:{'9' * 30}"]
)
async def test_an_id_that_is_none_is_a_reset(live, said):
    """Whatever a client says: it is not let believe that nothing was missed."""
    await live.publish("room:1", 1)

    stream = await listen(live, "channel=room:1", Last_Event_ID=said)

    assert (await stream.block()).startswith("event: reset\n")


async def test_a_channel_that_keeps_nothing_is_reset_for_who_comes_back(live):
    """Nobody can say what was missed."""
    first = await listen(live, "channel=lobby:1")
    begin = await first.block()
    await live.publish("lobby:1", 1)

    assert begin == "id: -\n\n"
    assert await first.block() == "data: 1\n\n"
    again = await listen(live, "channel=lobby:1", Last_Event_ID="-")
    assert (await again.block()).startswith("event: reset\n")


async def test_several_channels_have_one_id(live):
    """The positions of all of them, in the client's order; each comes back at its own."""
    query = "channel=room:1&channel=lobby:1&channel=room:2"
    stream = await listen(live, query)
    await stream.block()
    one = await live.publish("room:1", "a", event="said")
    text = await stream.block()
    two = await live.publish("room:2", "b")
    more = await stream.block()
    await live.publish("lobby:1", "c")
    unkept = await stream.block()

    assert text == (
        f': {one.epoch}:1\nevent: said\ndata: "a"\nid: {one.epoch}:1,-,{two.epoch}:0\n\n'
    )
    assert last_id(more) == f"{one.epoch}:1,-,{two.epoch}:1"
    assert unkept == ': \ndata: "c"\n\n'

    await live.publish("room:1", "d")
    again = await listen(live, query, Last_Event_ID=last_id(more))
    missed = await again.block()
    assert missed == (
        f': {one.epoch}:2\ndata: "d"\n\n'
        'event: reset\ndata: {"channel":"lobby:1"}\n\n'
        f"id: {one.epoch}:2,-,{two.epoch}:1\n\n"
    )


def test_the_last_position_of_a_burst_is_found():
    """Also where messages without a position stand behind it, and whatever they say."""
    at = [Position("e", 1), Position("e", 2), Position("", 0), Position("", 0)]
    burst = b"".join(
        placed_block(Message("c", Header("i", event=": x"), b'": y:3"', position))
        for position in at
    )

    assert position_in(burst) == "e:2"
    assert position_in(burst[burst.index(b": \n") :]) == ""


async def test_an_event_is_one_line_whatever_its_name(live):
    """A publisher cannot write into the stream's other fields."""
    stream = await listen(live, "channel=room:1")
    await stream.block()
    await live.publish("room:1", 1, event="a\nid: 9\r\ndata: 2")

    text = await stream.block()

    assert "event: a id: 9 data: 2\ndata: 1\n\n" in text


async def test_who_is_new_may_ask_for_the_last_messages(live):
    """``replay=1``: a page needs no second request for the state."""
    for number in range(3):
        await live.publish("room:1", number)

    stream = await listen(live, "channel=room:1&replay=1")

    assert "data: 2\n" in (text := await stream.block())
    assert text.count("data:") == 1
    assert last_id(text).endswith(":3")


def no_past(*, action, **kwargs):
    """A site's method: everybody may listen, nobody may read what was said before."""
    return action != "history"


def down(*, action, **kwargs):
    """A site's method whose database is gone when it comes to what was said before."""
    if action == "history":
        raise OperationalError("gone")
    return True


@pytest.mark.parametrize(("method", "status"), [("no_past", 403), ("down", 503)])
async def test_who_may_not_read_the_past_is_not_replayed_it(serve_live, method, status):
    """``authorize_method`` is asked for "history", as by the live endpoint's call."""
    live = await serve_live(authorize_method=f"{__name__}.{method}")

    assert (await listen(live, "channel=room:1")).status == 200
    assert (await listen(live, "channel=room:1&replay=1")).status == status


# -- who is let in ---------------------------------------------------------------------


async def test_one_refused_channel_refuses_all(live):
    """403 before the first byte of a stream, and nothing is heard meanwhile."""
    stream = await listen(live, "channel=room:1&channel=secret")

    assert stream.status == 403
    assert await stream.raw.reader.read(18) == b"permission denied\n"
    assert len(live.server) == 0


async def test_nobody_is_refused_where_users_are_wanted(serve_live):
    """The two texts of the handshake."""
    live = await serve_live(live={"anonymous": False})

    nobody = await listen(live, "channel=room:1")
    forged = await listen(live, "channel=room:1", Authorization="Bearer forged")

    assert (nobody.status, forged.status) == (403, 403)
    assert await nobody.raw.reader.read(19) == b"no token in request"
    assert await forged.raw.reader.read(13) == b"invalid token"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "room=1",
        "channel=",
        "channel=a%00b",
        f"channel={'x' * 256}",
        "channel=a&replay=x",
    ],
)
async def test_a_request_that_is_none_is_told_so(live, query):
    """400, and no stream."""
    assert (await listen(live, query)).status == 400


async def test_a_stream_has_so_many_channels_as_a_socket(serve_live):
    """``limits["live_channels"]``."""
    live = await serve_live(limits={"live_channels": 2})
    query = "channel=room:1&channel=room:2"

    assert (await listen(live, query)).status == 200
    assert (await listen(live, f"{query}&channel=room:1")).status == 200
    assert (await listen(live, f"{query}&channel=room:3")).status == 400


@pytest.mark.django_db(transaction=True)
async def test_a_session_lets_in_to_what_is_the_users(live, user, chat, session_cookie):
    """His subscription, his personal channel; from the site's own pages only."""
    query = f"channel=chat&channel=user:{user.pk}"
    own = {"Cookie": session_cookie, "Origin": live.url}

    stream = await listen(live, query, **own)
    foreign = await listen(live, query, **own | {"Origin": "https://evil.example"})
    other = await listen(live, f"channel=user:{user.pk + 1}", **own)

    assert stream.status == 200
    assert stream.headers["access-control-allow-origin"] == live.url
    assert stream.headers["access-control-allow-credentials"] == "true"
    assert (foreign.status, other.status) == (403, 403)
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.django_db(transaction=True)
async def test_a_token_and_a_ticket_let_in(live, user):
    """The token in a header, the ticket in the address, once."""
    query = f"channel=user:{user.pk}"
    ticket = await aissue(user)

    by_token = await listen(live, query, Authorization=f"Bearer {connection_token(user)}")
    by_ticket = await listen(live, f"{query}&ticket={ticket}")
    again = await listen(live, f"{query}&ticket={ticket}")

    assert [each.status for each in (by_token, by_ticket, again)] == [200, 200, 403]


async def test_a_page_of_another_origin_may_ask_first(serve_live):
    """A preflight for ``Last-Event-ID`` by ``fetch``; for those who are allowed."""
    live = await serve_live(allowed_origins=["https://app.example"])
    asked = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id",
    }
    raw = await Raw.open(live)

    await raw.request("OPTIONS", "/events", Origin="https://app.example", **asked)
    foreign = await Raw.open(live)
    await foreign.request("OPTIONS", "/events", Origin="https://evil.example", **asked)

    assert (raw.status, foreign.status) == (204, 403)
    assert raw.headers["access-control-allow-methods"] == "GET, OPTIONS"
    assert raw.headers["access-control-allow-headers"] == "last-event-id"


@pytest.mark.django_db(transaction=True)
async def test_who_listens_is_there_and_hears_messages_alone(live):
    """Presence counts a stream as any connection; who comes and goes is not said in it."""
    stream = await listen(live, "channel=joins:1")
    await stream.block()
    other = await listen(live, "channel=joins:1")
    await other.block()
    while len(await live.engine.presence.members("joins:1")) < 2:
        await asyncio.sleep(0)
    other.raw.close()

    await live.publish("joins:1", "said")

    assert await stream.block() == 'data: "said"\n\n'


# -- how it ends -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
async def test_a_stream_ends_with_the_subscription(live, user, chat):
    """In under a second; who comes back is refused, which ends an EventSource."""
    headers = {"Authorization": f"Bearer {connection_token(user)}"}
    stream = await listen(live, "channel=room:1&channel=chat", **headers)
    await stream.block()

    await chat.aunsubscribe(user)

    assert (await stream.end()).startswith(": 2000 server unsubscribe\nretry: ")
    assert (await listen(live, "channel=chat", **headers)).status == 403


@pytest.mark.django_db(transaction=True)
async def test_a_stream_ends_where_its_user_is_disconnected(live, user, until):
    """By `disconnect`, as each socket of his."""
    headers = {"Authorization": f"Bearer {connection_token(user)}"}
    stream = await listen(live, "channel=room:1", **headers)
    await stream.block()

    await adisconnect(user)

    assert (await stream.end()).startswith(": 3503 ")
    await until(lambda: len(live.server) == 0)


@pytest.mark.django_db(transaction=True)
async def test_a_stream_ends_with_the_users_rights(live, user):
    """Everything that he may do is looked at again; he is not subscribed to his personal
    channel by that."""
    headers = {"Authorization": f"Bearer {connection_token(user)}"}
    stream = await listen(live, "channel=members:1", **headers)
    await stream.block()
    [connection] = live.connections
    await live.server.rechecks._look({str(user.pk)}, entirely=True)
    assert list(connection.session.channels) == ["members:1"]

    user.is_active = False
    await user.asave()

    assert (await stream.end()).startswith(": 3507 ")


@pytest.mark.django_db(transaction=True)
async def test_a_stream_ends_with_its_token(live, user):
    """No new one can be brought, so nothing is waited for."""
    token = connection_token(user, ttl_s=1)
    stream = await listen(live, "channel=room:1", Authorization=f"Bearer {token}")
    await stream.block()

    assert (await stream.end()).startswith(": 3005 ")


async def test_streams_are_told_to_come_back_where_a_process_ends(live):
    """Drained as sockets are; each comes back at its own moment."""
    stream = await listen(live, "channel=room:1")
    await stream.block()

    await asyncio.wait_for(live.engine.part(Connections).drain(5), 10)

    goodbye = await stream.end()
    assert goodbye.startswith(": 3001 shutdown\nretry: ")
    assert 500 <= int(goodbye.split("retry: ")[1]) <= 2500


async def test_an_event_source_is_not_lost_to_a_busy_process(live):
    """It would take a 503 for the end of all; others are told in HTTP's own words."""
    live.engine.part(Connections).hang_up()

    source = await listen(live, "channel=room:1", Accept="text/event-stream")
    program = await listen(live, "channel=room:1")

    assert (source.status, program.status) == (200, 503)
    assert b"\nretry: " in await source.raw.rest()
    assert program.headers["retry-after"] == "1"


@pytest.mark.django_db(transaction=True)
async def test_streams_count_as_a_users_connections(serve_live, user):
    """``limits["user_connections"]``: a stream is one."""
    live = await serve_live(limits={"user_connections": 1})
    headers = {"Authorization": f"Bearer {connection_token(user)}"}

    first = await listen(live, "channel=room:1", **headers)
    second = await listen(live, "channel=room:1", **headers)

    assert (first.status, second.status) == (200, 429)
    assert live.engine.part(Connections).count("sse") == 1


async def test_a_client_that_leaves_is_forgotten(live, until):
    """Nothing of it stays."""
    stream = await listen(live, "channel=room:1")
    await stream.block()
    assert live.engine.hub.channels["room:1"] == 1

    stream.raw.close()

    await until(lambda: len(live.server) == 0)
    assert "room:1" not in live.engine.hub.channels


async def test_a_silent_stream_is_kept_open(serve_live):
    """A comment every ``limits["heartbeat_s"]``, which no answer is wanted to."""
    live = await serve_live(limits={"heartbeat_s": 0.2})
    stream = await listen(live, "channel=room:1")
    await stream.block()

    assert [await stream.raw.chunk() for _ in range(4)] == [HEARTBEAT] * 4
    assert live.engine.metrics["pongs_missed"] == 0


async def test_a_client_that_does_not_read_is_let_go(serve_live, until):
    """Its buffer is bounded; it comes back, and recovers."""
    live = await serve_live(limits={"send_buffer_bytes": 10_000})
    stream = await listen(live, "channel=room:1")
    await stream.block()

    async def flood():
        while live.engine.metrics["slow_disconnects"] == 0:
            await live.publish("room:1", "x" * 900_000)

    await asyncio.wait_for(flood(), 20)
    stream.raw.close()
    await until(lambda: len(live.server) == 0)


@pytest.mark.parametrize("query", ["channel=latest", "channel=latest&channel=room:1"])
async def test_a_slow_client_may_skip_to_the_newest(serve_live, query):
    """The option ``slow``, as for sockets."""
    live = await serve_live(
        channels={"latest": {"subscribe": "anyone", "slow": "latest", "history_size": 2}},
        limits={"send_buffer_bytes": 10_000},
    )
    stream = await listen(live, query)
    await stream.block()
    while live.engine.metrics["slow_skips"] == 0:
        await live.publish("latest", "x" * 900_000)
    await live.publish("latest", "newest")

    while "newest" not in (text := await stream.block()):
        pass

    position = await live.publish("latest", "next")
    assert last_id(text).startswith(f"{position.epoch}:{position.offset - 1}")


async def test_a_message_is_written_once_for_all_streams(live, monkeypatch):
    """However many hear it, the bytes are made once."""
    made = []
    known = events.named_block
    monkeypatch.setattr(events, "named_block", lambda m: made.append(m) or known(m))
    streams = [await listen(live, "channel=room:1") for _ in range(5)]
    for stream in streams:
        await stream.block()

    await live.publish("room:1", "once")

    for stream in streams:
        assert '"once"' in await stream.block()
    assert len(made) == 1


# -- where it is -----------------------------------------------------------------------


async def test_a_proxy_of_http_1_0_gets_no_chunks(live):
    """The end of the connection ends the stream."""
    raw = await Raw.open(live)
    await raw.request("GET", "/events?channel=room:1", version="1.0")

    assert "transfer-encoding" not in raw.headers
    async with asyncio.timeout(5):
        assert (await raw.reader.readuntil(b"\n\n")).startswith(b"id: ")


async def test_the_path_is_a_setting(serve_live):
    """``live["events_path"]``; an empty one is none."""
    moved = await serve_live(live={"events_path": "stream/of/news"})

    there = await listen(moved, "channel=room:1", path="/stream/of/news")

    assert there.status == 200
    assert (await listen(moved, "channel=room:1")).status == 404


async def test_no_path_is_no_stream(serve_live):
    """Switched off."""
    live = await serve_live(live={"events_path": ""})

    assert (await listen(live, "channel=room:1")).status == 404


class Urls:
    urlpatterns = [path("events", lambda request: HttpResponse("our own events"))]


async def test_a_page_of_the_sites_own_stays(serve, settings, site):
    """A site that has a page here keeps it: a stream names channels."""
    settings.REDIS_PUBSUB = site | {"live": {"anonymous": True}}
    settings.ROOT_URLCONF = Urls
    served = await serve(app=site_application([]))

    async with served.http.get(f"{served.url}/events") as page:
        assert await page.text() == "our own events"
    async with served.http.get(f"{served.url}/events?channel=x") as stream:
        assert stream.status == 403
