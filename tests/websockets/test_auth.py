"""Who gets in: decided before the upgrade, by Origin, token or session."""

from __future__ import annotations

import asyncio
import datetime
import threading

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from redis_pubsub.auth import authjwt_method, authtoken_method
from redis_pubsub.contrib.websockets import websocket, websocket_pubsub

pytestmark = pytest.mark.django_db(transaction=True)


@websocket("/whoami", authenticate=True)
async def whoami(ws, params, user):
    await ws.send_json({"user": user.username, "params": list(params)})


@websocket_pubsub("/pubsub", authenticate=True)
async def pubsub(ws, params, manager, user):
    await manager.forward(ws, "news")
    await ws.send_str(user.username)


async def refusal(served, path="/whoami", **options):
    """Status and text of a refused handshake."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **options.pop("headers", {}),
    }
    response = await served.http.get(served.url + path, headers=headers, **options)
    return response.status, await response.text()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def served(serve):
    return await serve(whoami, pubsub)


async def test_a_token_in_the_header_lets_its_user_in(served, token):
    """P-11 (1.0's *_valid_token): Bearer, Token or JWT as the scheme."""
    for scheme in ("Bearer", "token", "JWT"):
        ws = await served.connect("/whoami", headers={"Authorization": f"{scheme} {token}"})
        assert (await ws.receive_json())["user"] == "ada"


async def test_a_token_as_subprotocol_lets_its_user_in(served, token):
    """Browsers can: `new WebSocket(url, ["bearer", token])`; the answer is never the
    token."""
    ws = await served.connect("/whoami", protocols=("bearer", token))

    assert (await ws.receive_json())["user"] == "ada"
    assert ws.protocol == "bearer"


async def test_a_token_in_the_query_is_refused_unless_asked_for(
    serve, served, token, settings, site
):
    """B14: off by default with a text that names the setting; on, it works and is not
    handed to the handler."""
    status, text = await refusal(served, f"/whoami?token={token}")
    assert status == 403 and "token_in_query" in text

    settings.REDIS_PUBSUB = site | {"token_in_query": True}
    allowing = await serve(whoami)
    ws = await allowing.connect(f"/whoami?token={token}&x=1")
    assert await ws.receive_json() == {"user": "ada", "params": ["x"]}


@pytest.mark.parametrize("path", ["/whoami", "/pubsub"])
async def test_no_token_and_a_bad_token_have_their_texts(served, path):
    """P-11, P40 (1.0's *_authentication_error, *_invalid_token_error): 403 before the
    upgrade; nothing subscribed, nothing sent to Redis on its behalf."""
    assert await refusal(served, path) == (403, "no token in request")
    assert await refusal(served, path, headers=bearer("junk")) == (403, "invalid token")
    status, _ = await refusal(served, path, headers=bearer("x" * 10_000))
    assert status in (400, 403)

    assert set(served.engine.hub.channels) <= {"\x00control"}


async def test_an_inactive_user_is_refused(served, user, token):
    """P-11, row 8."""
    user.is_active = False
    await user.asave()

    assert await refusal(served, headers=bearer(token)) == (403, "invalid token")


async def test_a_session_cookie_lets_its_user_in_from_our_own_pages(served, session_cookie):
    """W-8: the cookie with our own Origin; without an Origin, or with a foreign one, 403
    and no query."""
    own = {"Origin": served.url}
    cookie = "; ".join(f"{name}={value}" for name, value in session_cookie.items())

    ws = await served.connect("/whoami", headers={"Cookie": cookie, **own})
    assert (await ws.receive_json())["user"] == "ada"
    status, _ = await refusal(served, headers={"Cookie": cookie})
    assert status == 403
    status, _ = await refusal(
        served, headers={"Cookie": cookie, "Origin": "https://evil.example"}
    )
    assert status == 403


async def test_a_session_also_speaks_for_a_stream_of_our_own_page(served, session_cookie):
    """Browsers send no Origin along with a GET to the page's own site, which an
    `EventSource` is. Nobody else's page gets in."""
    cookie = "; ".join(f"{name}={value}" for name, value in session_cookie.items())
    stream = f'{served.url}/connection/sse?cf_connect={{"id":1,"connect":{{}}}}'

    async def ask(**headers):
        async with served.http.get(stream, headers={"Cookie": cookie, **headers}) as answer:
            if answer.status != 200:
                return answer.status
            await answer.content.readline()
            return b'"connect"' in await answer.content.readline()

    assert await ask(**{"Sec-Fetch-Site": "same-origin"}) is True
    assert await ask(Referer=f"{served.url}/page/") is True
    assert await ask() == 403
    assert await ask(Referer="https://evil.example/") == 403
    assert await ask(Referer=f"{served.url}/", **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert await ask(**{"Sec-Fetch-Site": "same-origin", "Host": "evil.example"}) == 403


async def test_a_session_that_ended_is_no_session(served, session_cookie, user):
    """Deleted, of an inactive user, or made up."""
    own = {"Origin": served.url}
    cookie = "; ".join(f"{name}={value}" for name, value in session_cookie.items())
    user.is_active = False
    await user.asave()

    for value in (cookie, "sessionid=made-up"):
        answer = await refusal(served, headers={"Cookie": value, **own})
        assert answer == (403, "no token in request")


def make_jwt(user, **changes):
    from rest_framework_simplejwt.tokens import AccessToken

    token = AccessToken.for_user(user)
    for name, value in changes.items():
        token[name] = value
    return token


async def test_jwts_of_simplejwt(serve, settings, site, user):
    """P-11 (1.0's test_authjwt_method): valid, expired, wrong signature, inactive,
    deleted, refresh token, junk."""
    from rest_framework_simplejwt.tokens import RefreshToken

    settings.REDIS_PUBSUB = site | {"tokenauth_method": "redis_pubsub.auth.authjwt_method"}
    served = await serve(whoami)
    good = await sync_to_async(make_jwt)(user)
    expired = await sync_to_async(make_jwt)(user)
    expired.set_exp(lifetime=-datetime.timedelta(seconds=1))
    refresh = await sync_to_async(RefreshToken.for_user)(user)

    ws = await served.connect("/whoami", headers=bearer(good))
    assert (await ws.receive_json())["user"] == "ada"
    for bad in (expired, str(good)[:-4] + "AAAA", refresh, "a.b.c", "junk"):
        assert await refusal(served, headers=bearer(bad)) == (403, "invalid token")

    user.is_active = False
    await user.asave()
    assert await refusal(served, headers=bearer(good)) == (403, "invalid token")
    await user.adelete()
    assert await refusal(served, headers=bearer(good)) == (403, "invalid token")


@pytest.mark.parametrize("is_valid", [True, False])
def test_authtoken_method(user, is_valid):
    """1.0's test_authtoken_method: a valid key gives its user, junk gives None."""
    from rest_framework.authtoken.models import Token

    key = Token.objects.create(user=user).key if is_valid else "junk"

    assert authtoken_method(key) == (user if is_valid else None)


@pytest.mark.parametrize("is_valid", [True, False])
def test_authjwt_method(user, is_valid):
    """1.0's test_authjwt_method."""
    assert authjwt_method(str(make_jwt(user)) if is_valid else "junk") == (
        user if is_valid else None
    )


async def test_jwts_of_drf_jwt_where_that_is_installed(
    serve, settings, site, user, monkeypatch
):
    """P-11: without simplejwt, the maintained fork of 1.0's package is asked: valid, bad
    signature, expired, inactive."""
    from rest_framework_jwt.authentication import JSONWebTokenAuthentication as Drf
    from rest_framework_jwt.utils import jwt_create_payload

    from redis_pubsub.auth import methods

    find_spec = methods.find_spec
    monkeypatch.setattr(
        methods,
        "find_spec",
        lambda name: None if name == "rest_framework_simplejwt" else find_spec(name),
    )
    settings.REDIS_PUBSUB = site | {"tokenauth_method": "redis_pubsub.auth.authjwt_method"}
    served = await serve(whoami)
    payload = await sync_to_async(jwt_create_payload)(user)
    good = Drf.jwt_encode_payload(payload)
    expired = Drf.jwt_encode_payload(payload | {"exp": 1})

    ws = await served.connect("/whoami", headers=bearer(good))
    assert (await ws.receive_json())["user"] == "ada"
    for bad in (good[:-4] + "AAAA", expired, "junk"):
        assert await refusal(served, headers=bearer(bad)) == (403, "invalid token")
    user.is_active = False
    await user.asave()
    assert await refusal(served, headers=bearer(good)) == (403, "invalid token")


def sync_method(token):
    from django.contrib.auth.models import User

    assert threading.current_thread() is not threading.main_thread()
    return User.objects.filter(username=token).first()


async def async_method(token):
    from django.contrib.auth.models import User

    return await User.objects.filter(username=token.removeprefix("async-")).afirst()


def raising_method(token):
    raise RuntimeError(f"my method is broken by {token}")


def database_down(token):
    raise OperationalError("the database is away")


@pytest.mark.parametrize("method", ["sync_method", "async_method"])
async def test_a_custom_method_may_be_plain_or_a_coroutine(
    serve, settings, site, user, method
):
    """W-8, P-11: P42: one `str` in, a user or None out; a plain one runs off the loop."""
    settings.REDIS_PUBSUB = site | {"tokenauth_method": f"{__name__}.{method}"}
    served = await serve(whoami)

    ws = await served.connect("/whoami", headers=bearer("ada"))
    assert (await ws.receive_json())["user"] == "ada"
    assert await refusal(served, headers=bearer("bob")) == (403, "invalid token")


def nobodys_method(token):
    return None


async def test_several_methods_are_asked_in_order(serve, settings, site, user, caplog):
    """The first that knows the token wins, and the others are not asked."""
    settings.REDIS_PUBSUB = site | {
        "tokenauth_method": [
            f"{__name__}.nobodys_method",
            f"{__name__}.async_method",
            f"{__name__}.raising_method",
        ]
    }
    served = await serve(whoami)

    ws = await served.connect("/whoami", headers=bearer("async-ada"))
    assert (await ws.receive_json())["user"] == "ada"
    assert "my method is broken" not in caplog.text


async def test_a_method_that_raises_has_refused(serve, settings, site, user, caplog):
    """A later method does not let in whom an earlier one has found something against; the
    log says which method it was."""
    settings.REDIS_PUBSUB = site | {
        "tokenauth_method": [f"{__name__}.raising_method", f"{__name__}.async_method"]
    }
    served = await serve(whoami)

    assert await refusal(served, headers=bearer("ada")) == (403, "invalid token")
    assert "my method is broken" in caplog.text and "raising_method" in caplog.text


async def test_a_method_that_raises_is_a_403_and_a_traceback(serve, settings, site, caplog):
    """Bad input: never a 500; the token's text is not in the log, whatever it quotes."""
    settings.REDIS_PUBSUB = site | {"tokenauth_method": f"{__name__}.raising_method"}
    served = await serve(whoami)

    assert await refusal(served, headers=bearer("hush")) == (403, "invalid token")
    assert "my method is broken" in caplog.text and "hush" not in caplog.text


async def test_a_database_that_is_away_is_a_503(serve, settings, site):
    """Not "invalid": the client may try again."""
    settings.REDIS_PUBSUB = site | {"tokenauth_method": f"{__name__}.database_down"}
    served = await serve(whoami)

    status, text = await refusal(served, headers=bearer("x"))
    assert (status, text) == (503, "try again later")


async def test_an_unauthenticated_handler_still_looks_at_the_origin(serve):
    """T-6, B15: a foreign page opens no socket, whoever is logged in."""

    @websocket("/open")
    async def opened(ws, params):
        await ws.send_str("in")

    served = await serve(opened)

    ws = await served.connect("/open")
    assert await ws.receive_str() == "in"
    ws = await served.connect("/open", origin=served.url)
    assert await ws.receive_str() == "in"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await served.connect("/open", origin="https://evil.example")
    assert refused.value.status == 403


async def test_a_dripping_authentication_blocks_nobody(serve, settings, site, user):
    """A method that hangs holds a thread, not the loop."""
    settings.REDIS_PUBSUB = site | {"tokenauth_method": f"{__name__}.hanging_method"}
    served = await serve(whoami)

    waiting = asyncio.create_task(refusal(served, headers=bearer("slow")))
    ws = await served.connect("/whoami", headers=bearer("ada"))
    assert (await ws.receive_json())["user"] == "ada"
    gate.set()
    assert (await waiting)[0] == 403


gate = threading.Event()


def hanging_method(token):
    if token == "slow":
        gate.wait(5)
        return None
    return sync_method(token)
