"""What clients are told when something fails: words of the tables, and nothing else."""

from __future__ import annotations

import logging

import aiohttp
import pytest
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, OperationalError

from redis_pubsub import codes
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live import connecting, rpc
from redis_pubsub.contrib.live.protocol.session import Session
from redis_pubsub.contrib.websockets import websocket, websocket_pubsub
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.frames import cut_reason

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "postgres://admin:hunter2@db/shop SELECT * FROM auth_user"
ERRORS = {(each.code, each.reason) for each in codes.table(codes.Errors).values()}
CLOSES = {(each.code, each.reason) for each in codes.table(codes.Disconnects).values()}
CLOSES |= {
    (1008, "no such channel"),
    (1011, "internal error"),
    (codes.TRY_AGAIN, "try again later"),
}
REFUSALS = {
    (403, "invalid token"),
    (403, "no token in request"),
    (403, "this origin is not allowed"),
    (403, "a session needs an Origin header"),
    (503, "try again later"),
}
FAILURES = [ValueError, RuntimeError, KeyError, DatabaseError, OperationalError]


def raising(kind):
    raise kind(SECRET)


@rpc("fail")
async def fail(user, data):
    raising({each.__name__: each for each in FAILURES}[data])


@rpc("deny")
async def deny(user, data):
    raise PermissionDenied(SECRET)


@websocket("/fails")
async def fails(ws, params):
    raising({each.__name__: each for each in FAILURES}[params["kind"]])


@websocket_pubsub("/unheard")
async def unheard(ws, params, manager):
    raise BrokerUnavailable(SECRET)


@websocket("/guarded", authenticate=True)
async def guarded(ws, params, user):
    await ws.send_str("in")


def bad_method(**asked):
    raising(RuntimeError)


def bad_token_method(token):
    raising({each.__name__: each for each in FAILURES}[token])


async def close_of(ws):
    message = await ws.receive(timeout=10)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra


@pytest.mark.parametrize("kind", [each.__name__ for each in FAILURES])
async def test_a_handler_that_fails_says_so_and_no_more(serve_live, caplog, kind):
    """1011; the log has the traceback."""
    live = await serve_live(fails)

    told = await close_of(await live.served.connect(f"/fails/?kind={kind}"))

    assert told in CLOSES
    assert SECRET in caplog.text


async def test_a_handler_without_redis_says_when_to_come_back(serve_live):
    """1013."""
    live = await serve_live(unheard)

    assert await close_of(await live.served.connect("/unheard/")) in CLOSES


@pytest.mark.parametrize("kind", [each.__name__ for each in FAILURES])
async def test_a_token_method_that_fails_tells_nothing(serve_live, kind):
    """Neither in the answer to a handshake nor on the live endpoint; nor the token in the
    log."""
    live = await serve_live(guarded, tokenauth_method=f"{__name__}.bad_token_method")
    url = f"{live.url}/guarded/"
    headers = {
        "Authorization": f"Bearer {kind}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }

    async with live.http.get(url, headers=headers) as answer:
        assert (answer.status, (await answer.text()).strip()) in REFUSALS

    client = await live.open()
    await client.say({"connect": {"token": kind}})
    message = await client.ws.receive(timeout=10)
    assert SECRET not in str(message.data) + str(message.extra)
    if message.type is aiohttp.WSMsgType.TEXT:
        error = message.json()["error"]
        assert (error["code"], error["message"]) in ERRORS
    else:
        assert (message.data, message.extra) in CLOSES


async def test_calls_that_fail_have_a_code_and_its_text(serve_live, user, monkeypatch):
    """Of procedures, of the site's method, of channels that are not there."""
    live = await serve_live(fail, deny, authorize_method=f"{__name__}.bad_method")
    client = await live.connect(user)

    asked = [("rpc", {"method": "fail", "data": kind.__name__}) for kind in FAILURES]
    asked += [("rpc", {"method": "deny"}), ("rpc", {"method": "nothing"})]
    for action in ("subscribe", "presence", "presence_stats", "history", "publish"):
        for channel in ("room:1", "user:1", "no such channel", "\x00control", "a\nb"):
            data = {"data": {}} if action == "publish" else {}
            asked.append((action, {"channel": channel, **data}))
    replies = [await client.call(kind, **fields) for kind, fields in asked]

    told = {(each["error"]["code"], each["error"]["message"]) for each in replies}
    assert told <= ERRORS


async def test_what_is_another_users_looks_as_what_is_not_there(serve_live, user):
    """One error, letter by letter, whether or not there is such a channel."""
    live = await serve_live()
    client = await live.connect(user)
    await live.publish("user:999", "his")

    answers = [
        (await client.call(action, channel=channel))["error"]
        for action in ("subscribe", "history", "presence")
        for channel in ("user:999", "user:998", "group:staff", "session:abc", "nothing")
    ]

    assert all(each == answers[0] for each in answers)
    assert answers[0] == {"code": 103, "message": "permission denied"}


@pytest.mark.parametrize("kind", [ValueError, OperationalError])
async def test_a_connection_that_fails_is_told_a_code(serve_live, user, monkeypatch, kind):
    """Wherever in the connect command it happened."""
    live = await serve_live()
    monkeypatch.setattr(connecting, "_active_user", lambda pk: raising(kind))
    client = await live.open()

    await client.say({"connect": {"token": connection_token(user)}})

    message = await client.ws.receive(timeout=10)
    if message.type is aiohttp.WSMsgType.TEXT:
        error = message.json()["error"]
        assert (error["code"], error["message"]) in ERRORS
    else:
        assert (message.data, message.extra) in CLOSES


async def test_a_fault_of_ours_is_told_as_a_code(serve_live, monkeypatch, caplog):
    """3004, and a traceback for us alone."""
    live = await serve_live()
    client = await live.connect()
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(Session, "check_channel", lambda self, name: raising(KeyError))

    await client.say({"history": {"channel": "room:1"}})

    assert await client.ended() in CLOSES
    assert SECRET in caplog.text


def test_every_text_fits_a_close_frame():
    """123 bytes, whole characters: a longer frame would be none."""
    known = [
        *codes.table(codes.Errors).values(),
        *codes.table(codes.Disconnects).values(),
        *codes.table(codes.Unsubscribes).values(),
    ]
    for each in known:
        assert each.reason and len(each.reason.encode()) <= 123
    for text in ("é" * 100, "x" * 124, "日" * 50):
        cut = cut_reason(text)
        assert len(cut) <= 123 and text.startswith(cut.decode())
