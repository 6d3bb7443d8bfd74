"""Guessing tokens: counted per address, refused before anything is looked up, and answered
in one way whatever is wrong."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub.auth.authenticator import is_possible
from redis_pubsub.auth.tickets import aissue
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.web.clients import network_of
from tests.live.client import Live

from .conftest import refusal

pytestmark = pytest.mark.django_db(transaction=True)

LIMITED = (429, "too many bad tokens from this address")


@pytest.fixture
def serve_site(serve_site):
    """Clients on this machine are strangers like any other, unless a test says that they
    are proxies."""

    async def start(trusted_proxies=(), **values):
        return await serve_site(trusted_proxies=list(trusted_proxies), **values)

    return start


def bearer(token, **headers):
    return {"Authorization": f"Bearer {token}", **headers}


async def guess(served, times, **headers):
    return [await refusal(served, **bearer("junk", **headers)) for _ in range(times)]


async def test_who_guesses_is_not_listened_to_any_more(serve_site, token):
    """429 before the upgrade, for good tokens too: else the answer would tell which they
    are. Counted."""
    served = await serve_site(limits={"auth_failures": 3})

    assert await guess(served, 4) == [(403, "invalid token")] * 3 + [LIMITED]
    assert await refusal(served, **bearer(token)) == LIMITED

    metrics = served.engine.metrics
    assert (metrics["auth_failures"], metrics["auth_limited"]) == (3, 2)


async def test_the_answer_says_when_to_come_back(serve_site):
    served = await serve_site(limits={"auth_failures": 1})
    await guess(served, 1)

    response = await served.http.get(
        f"{served.url}/whoami", headers=bearer("junk", Upgrade="websocket")
    )

    assert response.status == 429 and 1 <= int(response.headers["Retry-After"]) <= 61


async def test_a_guesser_on_the_live_endpoint_gets_a_code(serve_site, user):
    """Error 111, temporary: clients come back later; whichever token they bring."""
    served = await serve_site(limits={"auth_failures": 2})
    for _ in range(2):
        client = Live(await served.connect("/connection/websocket"))
        await client.say({"connect": {"token": "a.b.c"}})
        assert await client.ended() == (3500, "invalid token")

    client = Live(await served.connect("/connection/websocket"))
    for token in ("a.b.c", connection_token(user), await aissue(user)):
        reply = await client.call("connect", token=token)
        assert reply["error"] == {
            "code": 111,
            "message": "too many requests",
            "temporary": True,
        }


async def test_bad_tickets_are_guesses_too(serve_site):
    """Each a tenth of one: clients come back with those that they have used."""
    served = await serve_site(limits={"auth_failures": 2})
    path = f"/whoami?ticket=ticket_{'A' * 43}"

    answers = [await refusal(served, path) for _ in range(20)]

    assert answers[:10] == [(403, "invalid token")] * 10
    assert answers[-1] == LIMITED


async def test_others_are_not_refused_with_a_guesser(serve_site, token):
    """By the client's address, as a trusted proxy says it."""
    served = await serve_site(["127.0.0.1"], limits={"auth_failures": 2})
    guesser, other = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}

    assert (await guess(served, 3, **guesser))[-1] == LIMITED

    ws = await served.connect("/whoami", headers=bearer(token, **other))
    assert (await ws.receive_json())["user"] == "ada"
    twisted = {"X-Forwarded-For": "192.0.2.9, 192.0.2.1"}
    assert (await guess(served, 1, **twisted)) == [LIMITED]


async def test_a_proxy_that_names_nobody_is_not_locked_out(serve_site, token):
    """It may be everybody: one guesser behind it would keep all others out."""
    served = await serve_site(["127.0.0.1"], limits={"auth_failures": 2})

    assert await guess(served, 5) == [(403, "invalid token")] * 5

    ws = await served.connect("/whoami", headers=bearer(token))
    assert (await ws.receive_json())["user"] == "ada"


async def test_an_untrusted_peer_cannot_choose_its_address(serve_site):
    """Row 3, §2.4: its ``X-Forwarded-For`` is not read."""
    served = await serve_site(limits={"auth_failures": 2}, trusted_proxies=["10.0.0.1"])

    answers = [
        (await guess(served, 1, **{"X-Forwarded-For": f"192.0.2.{n}"}))[0] for n in range(3)
    ]

    assert answers[-1] == LIMITED


async def test_good_tokens_cost_nothing(serve_site, token, browser):
    """However many come from one address; nor do sessions that nobody is logged in with."""
    served = await serve_site(limits={"auth_failures": 1})

    for _ in range(3):
        ws = await served.connect("/whoami", headers=bearer(token))
        assert (await ws.receive_json())["user"] == "ada"
        stale = {"Cookie": "sessionid=stale", "Origin": served.url}
        assert await refusal(served, **stale) == (403, "no token in request")

    assert (await guess(served, 1)) == [(403, "invalid token")]


async def test_a_token_whose_time_is_over_is_no_guess(serve_site, user):
    """A thousand clients come back with theirs after a pause, from one office."""
    served = await serve_site(limits={"auth_failures": 1})
    client = Live(await served.connect("/connection/websocket"))
    expired = await sync_to_async(connection_token)(user, ttl_s=-1)

    for _ in range(3):
        assert await client.error("connect", token=expired) == 109
        assert await refusal(served, **bearer(expired)) == (403, "invalid token")

    assert (await guess(served, 1)) == [(403, "invalid token")]


async def test_all_guesses_of_a_flood_are_counted(serve_site):
    """Those that come at once may all be looked at; then it is over."""
    served = await serve_site(limits={"auth_failures": 5})

    await asyncio.gather(*(refusal(served, **bearer("junk")) for _ in range(20)))

    assert await refusal(served, **bearer("junk")) == LIMITED


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:bbbb::2", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(address, counted_as):
    """It may choose another address for each guess."""
    assert network_of(address) == counted_as


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("x", True),
        ("ünïcode", True),
        ("x" * 8_192, True),
        ("x" * 8_193, False),
        ("", False),
        ("a\x00b", False),
        ("a\udcffb", False),
    ],
)
def test_what_cannot_be_a_token_is_shown_to_no_method(token, expected):
    """No database takes these texts."""
    assert is_possible(token) is expected
