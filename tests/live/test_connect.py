"""Who a connection is."""

from __future__ import annotations

import datetime
import time

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from redis_pubsub.addresses import personal_channel, session_channel
from redis_pubsub.auth.tokens import connection_token, sign, subscription_token
from redis_pubsub.codes import Errors
from redis_pubsub.contrib.live import connecting
from redis_pubsub.contrib.live.entering import Entering
from tests.shop.models import Parcel

from .client import subscribe
from .conftest import KEY

pytestmark = pytest.mark.django_db(transaction=True)


async def test_nobody_is_refused_for_good(serve_live):
    """§4: no credentials at all: 3507, after the upgrade."""
    live = await serve_live(live={"anonymous": False})
    client = await live.open()

    await client.say({"connect": {}})

    assert await client.ended() == (3507, "permission denied")


async def test_nobody_may_connect_where_the_site_says_so(live):
    """§4, §7: id, version, ping and pong; no session, no ttl; what is for everybody."""
    client = await live.connect(name="js", version="5.8.0", data={"v": 3})

    result = client.result_of_connect
    assert set(result) == {"client", "version", "ping", "pong", "subs"}
    assert list(result["subs"]) == ["broadcast"]
    assert result["ping"] == 25 and result["pong"] is True and result["version"]
    other = await live.connect()
    assert other.result_of_connect["client"] != result["client"]


async def test_a_token_of_the_sites_own_says_who_connects(live, user):
    """The answer says when to refresh, and what is heard without asking."""
    client = await live.open()

    result = await client.result("connect", token=connection_token(user, ttl_s=900))

    assert result["expires"] is True and 890 < result["ttl"] <= 900
    assert list(result["subs"]) == [personal_channel(str(user.pk)), "broadcast"]


async def test_a_token_without_an_end_needs_no_refresh(live, user):
    """`expires` only when the client has to refresh."""
    client = await live.open()

    result = await client.result("connect", token=sign(b'{"sub":"%d"}' % user.pk, KEY))

    assert "expires" not in result and "ttl" not in result


async def test_an_end_beyond_all_measure_is_told_as_a_long_one(live, user):
    """Milliseconds taken for seconds: the number must fit the clients' 32 bits."""
    claims = b'{"sub":"%d","exp":%d}' % (user.pk, time.time() * 1000)
    client = await live.open()

    result = await client.result("connect", token=sign(claims, KEY))

    assert 10_000_000 < result["ttl"] < 2**31


def bad_tokens(user):
    yield "junk"
    yield "a.b.c"
    yield connection_token(user)[:-3] + "AAA"
    yield subscription_token(user, "room:1")
    yield sign(b'{"sub":"999999"}', KEY)
    yield sign(b'{"sub":""}', KEY)
    yield sign(b'{"sub":"ada"}', KEY)
    yield sign(b'{"sub":"%d","channel":"x"}' % user.pk, KEY)
    yield "x" * 9_000


async def test_a_bad_token_is_refused_for_good(live, user):
    """§4: 3500, also where nobody may connect; a channel's token connects nobody."""
    for token in bad_tokens(user):
        client = await live.open()
        await client.say({"connect": {"token": token}})
        assert await client.ended() == (3500, "invalid token")


async def test_a_subject_that_is_no_key_of_a_user_is_nobodys(live, monkeypatch):
    """3500 also where keys are UUIDs, for which Django has an exception of its own."""
    monkeypatch.setattr(connecting, "get_user_model", lambda: Parcel)
    client = await live.open()

    await client.say({"connect": {"token": sign(b'{"sub":"7"}', KEY)}})

    assert (await client.ended())[0] == 3500


async def test_an_expired_token_is_error_109(live, user):
    """§4: the client fetches another; what came along is not carried out."""
    client = await live.open()
    token = connection_token(user, ttl_s=-1)

    await client.say({"connect": {"token": token}}, subscribe("room:1"))

    assert (await client.hear())["error"]["code"] == 109
    await client.result("connect")
    assert await client.silent() == []
    assert "room:1" not in live.engine.hub.channels


async def test_tokens_of_simplejwt_expire_too(serve_live, user):
    """109 whoever issued it; a good one tells when it ends."""
    from rest_framework_simplejwt.tokens import AccessToken

    live = await serve_live(tokenauth_method="redis_pubsub.auth.authjwt_method")
    good = await sync_to_async(AccessToken.for_user)(user)
    expired = await sync_to_async(AccessToken.for_user)(user)
    expired.set_exp(lifetime=-datetime.timedelta(seconds=1))

    client = await live.open()
    assert await client.error("connect", token=str(expired)) == 109
    result = await client.result("connect", token=str(good))
    assert result["expires"] and 0 < result["ttl"] <= 300


@pytest.fixture
async def drf_token(user):
    from rest_framework.authtoken.models import Token

    return (await Token.objects.acreate(user=user)).key


@pytest.mark.parametrize("way", ["command", "header", "subprotocol", "stand-in"])
async def test_a_token_comes_on_any_way(live, user, drf_token, way):
    """By the command, the header, the subprotocol, or in place of the header."""
    bearer = {"Authorization": f"Bearer {drf_token}"}
    options = {
        "header": {"headers": bearer},
        "subprotocol": {"protocols": ("bearer", drf_token)},
    }
    request = {"command": {"token": drf_token}, "stand-in": {"headers": bearer}}
    client = await live.open(**options.get(way, {}))

    result = await client.result("connect", **request.get(way, {}))

    assert list(result["subs"]) == [personal_channel(str(user.pk)), "broadcast"]


async def test_other_stand_ins_are_not_believed(live, user, session_cookie):
    """§4: only those on a list; a cookie written down by a page is none."""
    client = await live.open()

    result = await client.result("connect", headers={"Cookie": session_cookie})

    assert list(result["subs"]) == ["broadcast"]


async def test_a_session_lets_its_user_in_from_our_own_pages(live, user, session_cookie):
    """The cookie with our Origin; without one or with a foreign one 403, before the
    upgrade; an inactive user is nobody."""
    cookie = {"Cookie": session_cookie}
    client = await live.open(headers=cookie, origin=live.url)
    result = await client.result("connect")
    key = session_cookie.partition("=")[2]
    own = [session_channel(key), personal_channel(str(user.pk)), "broadcast"]
    assert list(result["subs"]) == own
    assert "expires" not in result

    for headers in (cookie, {**cookie, "Origin": "https://evil.example"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await live.open(headers=headers)
        assert refused.value.status == 403

    user.is_active = False
    await user.asave()
    client = await live.open(headers=cookie, origin=live.url)
    result = await client.result("connect")
    assert personal_channel(str(user.pk)) not in result["subs"]


async def test_a_foreign_page_gets_no_socket(live):
    """Whoever it would be; the clients see a transport that does not open."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.open(origin="https://evil.example")
    assert refused.value.status == 403


async def test_an_inactive_or_deleted_user_is_refused(live, user):
    """His token is good, he is not: 3500."""
    token = connection_token(user)
    user.is_active = False
    await user.asave()
    for is_deleted in (False, True):
        if is_deleted:
            await user.adelete()
        client = await live.open()
        await client.say({"connect": {"token": token}})
        assert (await client.ended())[0] == 3500


def database_down(*args, **kwargs):
    raise OperationalError("the database is away")


@pytest.mark.parametrize("way", ["own", "method", "session"])
async def test_a_database_that_is_away_is_a_temporary_error(
    serve_live, monkeypatch, user, session_cookie, way
):
    """§4: never "invalid": error 100, and the same client may try again."""
    live = await serve_live(tokenauth_method=f"{__name__}.database_down")
    monkeypatch.setattr(connecting, "_active_user", database_down)
    monkeypatch.setattr("redis_pubsub.web.handshake.user_of_session", database_down)
    options = {"headers": {"Cookie": session_cookie}, "origin": live.url}
    client = await live.open(**(options if way == "session" else {}))
    tokens = {"own": connection_token(user), "method": "x", "session": ""}

    reply = await client.call("connect", token=tokens[way])

    assert reply["error"]["code"] == 100 and reply["error"]["temporary"] is True
    monkeypatch.undo()
    if way == "own":
        await client.result("connect", token=tokens[way])


async def test_a_connection_that_failed_halfway_is_nobody_elses(
    live, user, other_user, monkeypatch
):
    """What is remembered of it is the first user's: his place, and what he may see."""
    failures = [OperationalError("gone")]
    own_channels = connecting.own_channels

    async def fails_once(connection):
        if failures:
            raise failures.pop()
        return await own_channels(connection)

    monkeypatch.setattr(connecting, "own_channels", fails_once)
    client = await live.open()
    assert await client.error("connect", token=connection_token(user)) == 100

    await client.say({"connect": {"token": connection_token(other_user)}})

    assert (await client.ended())[0] == 3500


async def test_who_is_let_in_by_half_hears_nothing(live, user, monkeypatch):
    """Redis fails at the second of the channels that a client hears without asking: it is
    refused, and the first is fed to it no more."""
    admit = Entering.admit

    def half(entering, entry):
        return Errors.INTERNAL if entry.channel == "broadcast" else admit(entering, entry)

    monkeypatch.setattr(Entering, "admit", half)
    client = await live.open()

    assert await client.error("connect", token=connection_token(user)) == 100
    assert live.engine.hub.listeners(personal_channel(str(user.pk))) == []
