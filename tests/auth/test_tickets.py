"""One-use tickets: from the page that asks for one to the socket that uses it up."""

from __future__ import annotations

import asyncio
import os
import signal

import centrifuge
import pytest
import redis
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing

from redis_pubsub import adisconnect
from redis_pubsub.auth import tickets
from redis_pubsub.auth.tickets import aissue, is_ticket, issue
from redis_pubsub.codes import Disconnects
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.testing import RedisServer
from tests.live.client import Live

from .conftest import refusal

pytestmark = pytest.mark.django_db(transaction=True)

INVALID = (403, "invalid token")


async def whoami_of(served, ticket, **options):
    ws = await served.connect(f"/whoami?ticket={ticket}&x=1", **options)
    return await ws.receive_json()


async def test_a_page_gets_a_ticket_and_opens_a_socket_with_it(served, browser):
    """The plain view, and the query; the handler does not see the ticket."""
    response = await served.http.post(
        f"{served.url}/pubsub/ticket/", headers={**browser, "Origin": served.url}
    )
    answer = await response.json()

    assert response.status == 200 and response.headers["Cache-Control"] == "no-store"
    assert is_ticket(answer["ticket"]) and answer["expires_in"] == 30
    said = await whoami_of(served, answer["ticket"], origin=served.url)
    assert said == {"user": "ada", "params": ["x"]}


async def test_the_rest_view_takes_what_rest_framework_takes(served, token, browser):
    """A token without a page, and a session with Django's CSRF check."""
    url = f"{served.url}/api/ticket/"
    native = {"Authorization": f"Token {token}"}

    response = await served.http.post(url, headers=native)
    assert response.status == 200
    ticket = (await response.json())["ticket"]
    assert (await whoami_of(served, ticket))["user"] == "ada"
    response = await served.http.post(url, headers={**browser, "Origin": served.url})
    assert response.status == 200
    forged = {"Cookie": browser["Cookie"], "Origin": served.url}
    assert (await served.http.post(url, headers=forged)).status == 403
    assert (await served.http.post(url)).status == 401
    assert (await served.http.get(url, headers=native)).status == 405


async def test_the_plain_view_is_for_posts_of_who_is_logged_in(served, browser):
    """And carries Django's CSRF token; a page of another origin gets nothing."""
    url = f"{served.url}/pubsub/ticket/"
    own = {"Origin": served.url}
    cookie = {"Cookie": browser["Cookie"]}
    stranger = {"Cookie": f"csrftoken={'c' * 32}", "X-CSRFToken": "c" * 32}

    assert (await served.http.get(url, headers={**browser, **own})).status == 405
    assert (await served.http.post(url, headers={**cookie, **own})).status == 403
    response = await served.http.post(url, headers={**stranger, **own})
    assert (response.status, await response.json()) == (
        403,
        {"detail": "log in to get a ticket"},
    )
    evil = {**browser, "Origin": "https://evil.example"}
    assert (await served.http.post(url, headers=evil)).status == 403


async def test_of_many_who_use_one_ticket_at_once_one_gets_in(served, user):
    """Row 9: ``GETDEL`` gives it to one."""
    ticket = await aissue(user)

    outcomes = await asyncio.gather(
        *(served.connect(f"/whoami?ticket={ticket}") for _ in range(20)),
        return_exceptions=True,
    )

    let_in = [each for each in outcomes if not isinstance(each, Exception)]
    assert len(let_in) == 1 and (await let_in[0].receive_json())["user"] == "ada"
    assert await refusal(served, f"/whoami?ticket={ticket}") == INVALID


@pytest.mark.parametrize("way", ["query", "header", "subprotocol"])
async def test_a_handlers_ticket_comes_on_any_way(served, user, way):
    ticket = await aissue(user)
    options = {
        "header": {"headers": {"Authorization": f"Bearer {ticket}"}},
        "subprotocol": {"protocols": ("bearer", ticket)},
    }
    path = f"/whoami?ticket={ticket}" if way == "query" else "/whoami"

    ws = await served.connect(path, **options.get(way, {}))

    assert (await ws.receive_json())["user"] == "ada"
    assert ws.protocol == ("bearer" if way == "subprotocol" else None)


@pytest.mark.parametrize("way", ["command", "query", "header", "subprotocol"])
async def test_a_live_ticket_comes_on_any_way_and_once(served, user, way):
    """The second time error 109, on which clients ask for another. The connection outlives
    its ticket."""
    ticket = await aissue(user)
    options = {
        "header": {"headers": {"Authorization": f"Bearer {ticket}"}},
        "subprotocol": {"protocols": ("bearer", ticket)},
    }
    path = "/connection/websocket" + (f"?ticket={ticket}" if way == "query" else "")
    request = {"token": ticket} if way == "command" else {}

    client = Live(await served.connect(path, **options.get(way, {})))
    result = await client.result("connect", **request)
    again = Live(await served.connect(path, **options.get(way, {})))

    own = [f"user:{user.pk}", "broadcast"]
    assert list(result["subs"]) == own and "expires" not in result
    assert await again.error("connect", **request) == 109
    await again.result("connect", token=await aissue(user))


async def test_a_client_library_fetches_a_ticket_for_each_connection(served, user, until):
    """It keeps the used one, is told that it is over, and comes back by itself."""
    fetched = []

    async def get_token(context=None):
        fetched.append(await aissue(user))
        return fetched[-1]

    url = f"ws://127.0.0.1:{served.port}/connection/websocket"
    client = centrifuge.Client(url, get_token=get_token, min_reconnect_delay=0.01)
    await client.connect()
    await client.ready()
    await adisconnect(user, code=Disconnects.FORCE_RECONNECT)
    await until(lambda: len(fetched) == 2, 10)
    await until(lambda: client.state is centrifuge.ClientState.CONNECTED, 10)

    await client.disconnect()


async def test_a_stream_of_our_own_page_takes_a_ticket(served, user):
    """Server-sent events come without an ``Origin``; the browser says otherwise whose."""
    ticket = await aissue(user, origin=served.url)
    command = f'{{"id":1,"connect":{{"token":"{ticket}"}}}}'
    url = f"{served.url}/connection/sse"

    async with served.http.get(
        url, params={"cf_connect": command}, headers={"Sec-Fetch-Site": "same-origin"}
    ) as stream:
        await stream.content.readline()
        line = await stream.content.readline()

    assert b'"connect":{"client"' in line


@pytest.mark.parametrize(
    ("issued_for", "page"),
    [
        ("http://localhost:1", ""),
        ("https://app.example", None),
        ("", "own"),
        ("https://app.example", "own"),
    ],
)
async def test_a_ticket_is_for_pages_of_one_origin(served, user, issued_for, page):
    """A stolen one is of no use on another page; used or not, it is used up."""
    ticket = await aissue(user, origin=issued_for)
    headers = {"Origin": served.url} if page == "own" else {}

    assert await refusal(served, f"/whoami?ticket={ticket}", **headers) == INVALID
    if issued_for == "":
        assert await refusal(served, f"/whoami?ticket={ticket}") == INVALID


async def test_an_origin_has_one_meaning_in_any_spelling(served, user, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://app.example"]
    ticket = await aissue(user, origin="https://APP.example:443")

    said = await whoami_of(served, ticket, origin="https://app.example")

    assert said["user"] == "ada"


async def test_a_ticket_ends_by_itself(serve_site, user, redis_server, prefix, until):
    """`ticket_s`; Redis forgets it."""
    served = await serve_site(limits={"ticket_s": 0.05})
    ticket = await aissue(user)
    with redis.Redis(unix_socket_path=str(redis_server.path)) as client:
        await until(lambda: not client.keys(f"{prefix}:once:*"))

    assert await refusal(served, f"/whoami?ticket={ticket}") == INVALID


@pytest.mark.parametrize("change", ["password", "inactive", "deleted"])
async def test_a_ticket_of_a_user_who_has_changed_is_not_good(served, user, change):
    """A new password ends what was issued before, as it ends Django's sessions."""
    ticket = await aissue(user)
    if change == "deleted":
        await user.adelete()
    else:
        user.is_active = change != "inactive"
        user.set_password("another")
        if change == "inactive":
            user.password = (await User.objects.aget(pk=user.pk)).password
        await user.asave()

    assert await refusal(served, f"/whoami?ticket={ticket}") == INVALID


async def test_redis_holds_no_ticket_and_believes_none_that_is_put_there(
    served, user, redis_server, prefix
):
    """Who reads Redis cannot log in by what he reads; who writes cannot make a ticket,
    nor move another's note to one of his own."""
    real = await aissue(user)
    made = tickets.PREFIX + "A" * 43
    name = tickets._name(made)
    note = [name, str(user.pk), "", "x", ""]
    forged = signing.dumps(note, key="a", salt=tickets._SALT)
    with redis.Redis(unix_socket_path=str(redis_server.path)) as client:
        [key] = client.keys(f"{prefix}:once:*")
        note = client.get(key)
        assert real.encode() not in key + note
        assert real.removeprefix(tickets.PREFIX).encode() not in key + note
        for value in (note, forged, b"", b"\xff", b"x:y:z", signing.dumps([], salt="a")):
            client.set(f"{prefix}:once:{{{name}}}", value)
            assert await refusal(served, f"/whoami?ticket={made}") == INVALID

    assert (await whoami_of(served, real))["user"] == "ada"


async def test_a_parameter_of_the_sites_own_named_ticket_is_left_alone(served, browser):
    """``?ticket=1234`` may be a help desk's."""
    ws = await served.connect(
        "/whoami?ticket=1234", headers={"Cookie": browser["Cookie"]}, origin=served.url
    )

    assert await ws.receive_json() == {"user": "ada", "params": ["ticket"]}


@pytest.mark.may_block(reason="starts and ends a Redis of its own")
async def test_without_redis_everybody_is_told_to_come_back(serve_site, user, browser):
    """503 from the views and at the handshake, error 100 in the connect reply: never
    "invalid", and no hang."""
    with RedisServer() as server:
        served = await serve_site(url=server.url)
        ticket = await aissue(user)
        server.kill()
        own = {"Origin": served.url}
        async with asyncio.timeout(20):
            for path in ("/pubsub/ticket/", "/api/ticket/"):
                answer = await served.http.post(
                    served.url + path, headers={**browser, **own}
                )
                assert (answer.status, await answer.json()) == (
                    503,
                    {"detail": "try again later"},
                )
                assert answer.headers["Retry-After"] == "2"
            assert await refusal(served, f"/whoami?ticket={ticket}") == (
                503,
                "try again later",
            )
            client = Live(await served.connect("/connection/websocket"))
            assert await client.error("connect", token=ticket) == 100
        with pytest.raises(BrokerUnavailable):
            await aissue(user)


@pytest.mark.may_block(reason="stops a Redis of its own")
async def test_a_redis_that_stands_still_is_waited_for_once(serve_site, browser):
    """The first request waits as long as one command may take, the next not at all."""
    with RedisServer() as server:
        served = await serve_site(url=server.url)
        own = {**browser, "Origin": served.url}
        url = f"{served.url}/pubsub/ticket/"
        assert (await served.http.post(url, headers=own)).status == 200
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(15):
                for _ in range(3):
                    assert (await served.http.post(url, headers=own)).status == 503
        finally:
            os.kill(server.pid, signal.SIGCONT)


async def test_tickets_work_without_redis_where_one_process_is_all(serve_site, user):
    """``memory://``."""
    served = await serve_site(url="memory://tickets")
    ticket = await sync_to_async(issue)(user)

    assert (await whoami_of(served, ticket))["user"] == "ada"
    assert await refusal(served, f"/whoami?ticket={ticket}") == INVALID


async def test_a_ticket_is_made_for_somebody(user, site):
    """And says so at once where it is not."""
    with pytest.raises(ValueError, match="not for an anonymous one"):
        await aissue(AnonymousUser())
    with pytest.raises(ValueError, match="is no origin"):
        await aissue(user, origin="example.com")
    with pytest.raises(RuntimeError, match="aissue"):
        issue(user)


@pytest.mark.parametrize("way", ["session", "token"])
async def test_both_views_tie_a_ticket_to_what_it_was_asked_with(
    served, browser, client, token, user, way
):
    """What it opened ends with the session, or with the token."""
    if way == "session":
        path, headers = "/pubsub/ticket/", {**browser, "Origin": served.url}
    else:
        path, headers = "/api/ticket/", {"Authorization": f"Token {token}"}
    response = await served.http.post(served.url + path, headers=headers)
    ticket = (await response.json())["ticket"]
    origin = {"origin": served.url} if way == "session" else {}
    ws = await served.connect("/whoami?wait=1&ticket=" + ticket, **origin)
    await ws.receive_json()

    if way == "session":
        await sync_to_async(client.logout)()
    else:
        await user.auth_token.adelete()

    message = await ws.receive(timeout=10)
    assert message.data == {"session": 3503, "token": 3500}[way]
