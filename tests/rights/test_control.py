"""The control channel: what was said while a process could not hear, what was made up."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async

from redis_pubsub import adisconnect, arefresh, aunsubscribe
from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.messages import CONTROL_CHANNEL, Draft, new_header
from redis_pubsub.publishing import control

from .conftest import HANDLER, LIVE, code_of, stays

pytestmark = pytest.mark.django_db(transaction=True)
both = pytest.mark.parametrize("kind", [HANDLER, LIVE])


@pytest.fixture
async def redis_client(redis_server):
    client = redis.asyncio.Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def deafen(rights, redis_client, until, monkeypatch):
    """``hear = await deafen()``: the process is deaf to Redis until ``await hear()``; its
    connection was cut and cannot be made anew."""
    broker = rights.engine.hub.broker
    allowed = asyncio.Event()
    serve = broker.subscriber.serve

    async def later(connection, sink):
        await allowed.wait()
        await serve(connection, sink)

    async def cut():
        await until(lambda: rights.engine.hub.is_heard(CONTROL_CHANNEL))
        feed = rights.engine.hub._feeds[CONTROL_CHANNEL]
        await until(lambda: feed.position or feed.read_top)
        monkeypatch.setattr(broker.subscriber, "serve", later)
        for each in await redis_client.client_list(_type="pubsub"):
            await redis_client.client_kill_filter(_id=each["id"])
        await until(lambda: not broker.is_connected)
        return hear

    async def hear():
        allowed.set()
        await until(lambda: broker.is_connected)

    return cut


@both
async def test_a_disconnect_said_in_a_gap_is_made_up_for(
    rights, user, other_user, kind, log_in, deafen
):
    """It is in no table: only the channel's history has it."""
    ada = await rights.of_session(kind, await log_in(user))
    bob = await rights.of_session(kind, await log_in(other_user))

    hear = await deafen()
    await sync_to_async(control.disconnect)(user)
    await hear()

    assert await code_of(ada) == 3503
    assert await stays(bob)
    assert rights.engine.metrics["positions_lost"] == 0


async def test_an_unsubscribe_said_in_a_gap_is_made_up_for(rights, user, log_in, deafen):
    live = await rights.of_session(LIVE, await log_in(user))
    await live.subscribe("members:1")

    hear = await deafen()
    await sync_to_async(control.unsubscribe)(user, "members:1")
    await hear()

    assert (await live.push("unsubscribe", "members:1"))["code"] == 2000


@both
async def test_where_the_history_no_longer_reaches_everybody_is_looked_at(
    rights, user, django_user_model, kind, log_in, deafen, redis_client, prefix
):
    """Its stream is gone: whoever may not stay is found in the database."""
    client = await rights.of_session(kind, await log_in(user))
    other = await rights.of_session(kind, await log_in(user))

    hear = await deafen()
    await django_user_model.objects.filter(pk=user.pk).aupdate(is_active=False)
    await sync_to_async(control.disconnect)(client="nobody")
    async for key in redis_client.scan_iter(f"{prefix}*control*"):
        await redis_client.delete(key)
    await hear()

    assert await code_of(client) == 3507 and await code_of(other) == 3507


async def test_what_is_said_is_kept_for_a_while(rights, user, redis_client, prefix):
    """A stream of 1,000 at most, forgotten after five minutes; no session key in it."""
    for n in range(1_100):
        await adisconnect(session=f"the key of a session {n}")

    (stream,) = [
        key
        async for key in redis_client.scan_iter(f"{prefix}*control*")
        if await redis_client.type(key) == b"stream"
    ]
    assert await redis_client.xlen(stream) == 1_000
    assert 0 < await redis_client.ttl(stream) <= 300
    entries = await redis_client.xrange(stream, count=10)
    assert b"the key" not in b"".join(b"".join(fields.values()) for _, fields in entries)


@pytest.mark.may_block(reason="stops and continues the server")
async def test_a_redis_that_stood_still_loses_nothing(
    rights, user, log_in, redis_server, until
):
    """What is said as soon as it answers again arrives, in a new connection or the old."""
    ada = await rights.of_session(LIVE, await log_in(user))
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        await until(lambda: not rights.engine.hub.broker.is_connected, timeout_s=15)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)

    await sync_to_async(control.disconnect)(user)

    assert await code_of(ada) == 3503


# -- what was made up --------------------------------------------------------------------

FORGED = [
    {"kind": "grant", "users": ["{user}"], "channel": "secret"},
    {"kind": "subscribe", "users": ["{user}"], "channel": "secret"},
    {"kind": "subscriptions", "users": ["{user}"], "channel": "secret", "active": True},
    {"kind": "refresh", "users": ["{user}"], "channel": "secret", "is_active": True},
    {"kind": "all", "users": ["{user}"], "channel": "secret"},
    {"kind": "unsubscribe", "users": ["", "nobody"], "channel": "members:1"},
    {"kind": "disconnect", "users": [""], "client": "", "digest": ""},
    {"kind": "disconnect", "digest": "0" * 32},
    {"kind": "disconnect", "users": ["{user}"], "digest": "0" * 32},
    {"kind": "refresh", "users": [None]},
    {"kind": 1},
    ["disconnect"],
    "disconnect",
]


async def test_a_forged_event_grants_nothing(rights, user, log_in, until):
    """Whatever it says: what is heard stays as the database has it, and nobody who is not
    named is cut off."""
    live = await rights.of_session(LIVE, await log_in(user))
    handler = await rights.of_session(HANDLER, await log_in(user))
    await live.subscribe("members:1")

    for event in FORGED:
        raw = json.dumps(event).replace("{user}", str(user.pk)).encode()
        await say(rights, raw)
    heard = rights.rechecks.heard
    await arefresh(user)
    await until(lambda: rights.rechecks.heard > heard)
    await until(lambda: rights.rechecks._task is None)

    assert await stays(live) and await stays(handler)
    heard = {name.partition(":")[0] for name in rights.engine.hub.channels}
    assert heard == {CONTROL_CHANNEL, "members", "user", "session", "broadcast"}
    assert await live.error("subscribe", channel="secret") == 103


async def test_a_forged_event_ends_at_most_what_it_names(rights, user, other_user, log_in):
    """With a code that clients know, whatever it asks for."""
    ada = await rights.of_session(LIVE, await log_in(user))
    bob = await rights.of_session(LIVE, await log_in(other_user))

    await say(rights, b'{"kind":"disconnect","users":["%d"],"code":101}' % user.pk)

    assert await code_of(ada) == 3503
    assert await stays(bob)


async def say(site, raw):
    """As one who can write to Redis says it."""
    await site.engine.hub.broker.publish([Draft(CONTROL_CHANNEL, new_header(), raw)])


# -- the names ---------------------------------------------------------------------------


async def test_a_session_or_a_token_can_be_named(rights, user, log_in, token):
    """`disconnect(session=…)`, of a user or of anybody, `disconnect(token=…)`."""
    first, second = await log_in(user), await log_in(user)
    one = await rights.of_session(HANDLER, first)
    two = await rights.of_session(LIVE, second)
    three = await rights.of_token(HANDLER, token)

    await adisconnect(user, session=first.key)
    assert await code_of(one) == 3503
    await adisconnect(session=second.key)
    assert await code_of(two) == 3503
    assert await stays(three)
    await adisconnect(token=token)
    assert await code_of(three) == 3503


@pytest.mark.parametrize(
    "names",
    [{}, {"client": "a", "session": "b"}, {"session": "a", "token": "b"}],
)
async def test_too_few_or_too_many_names_are_refused(names):
    with pytest.raises(TypeError):
        await adisconnect(**names)


def by_token_of_channel(*, channel, token, **question):
    """The site's rule: a token of the channel's."""
    TOKENS.append((channel, token))
    return token in ALLOWED


ALLOWED: set[str] = set()
TOKENS: list[tuple[str, str]] = []


async def test_a_refresh_asks_with_what_the_client_sent(serve_site, user, log_in):
    """The site's method gets the token that came with the subscribe; when it no longer
    accepts that, the subscription ends."""
    TOKENS.clear()
    ALLOWED.update({"a", "b"})
    site = await serve_site(
        limits={"recheck_s": 0}, authorize_method=f"{__name__}.by_token_of_channel"
    )
    live = await site.of_session(LIVE, await log_in(user))
    await live.subscribe("one", token="a")
    await live.subscribe("two", token="b")

    ALLOWED.discard("a")
    await arefresh(user)

    assert (await live.push("unsubscribe", "one"))["code"] == 2000
    assert await live.silent() == []
    # Side by side: in either order.
    assert sorted(TOKENS[2:]) == [("one", "a"), ("two", "b")]


async def test_an_unsubscribe_of_nobody_in_particular_is_refused():
    with pytest.raises(TypeError):
        await aunsubscribe(None, "chat")


def test_the_history_is_that_of_the_control_channel_only():
    """Other channels of the package's own have none to be read again."""
    from redis_pubsub.messages import has_position, reserved_channel

    assert has_position(CONTROL_CHANNEL) and has_position("chat")
    assert not has_position(reserved_channel("node:1"))


async def test_without_redis_a_coroutine_is_told_as_little_as_a_thread(
    settings, user, caplog
):
    """The failure is logged; the rounds find what was not told."""
    settings.REDIS_PUBSUB = {"url": "redis://127.0.0.1:1/0"}
    engine = Engine(get_config())
    await engine.start()
    try:
        await adisconnect(user)
        await aunsubscribe(user, "news")
    finally:
        await engine.close()

    assert caplog.text.count("1 message(s) not published") == 2
