"""Sessions and tokens that end by themselves, and what nobody was told of."""

from __future__ import annotations

import datetime
import time

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.utils import timezone

from redis_pubsub.models import Subscription

from .conftest import HANDLER, LIVE, code_of, stays

pytestmark = pytest.mark.django_db(transaction=True)
both = pytest.mark.parametrize("kind", [HANDLER, LIVE])
BACKENDS = ["db", "cached_db", "cache", "signed_cookies", "file"]
SIMPLEJWT = {"tokenauth_method": "redis_pubsub.auth.authjwt_method"}


@both
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_socket_ends_with_its_session(
    serve_site, settings, user, kind, backend, log_in, tmp_path
):
    """3005, whatever Django keeps sessions in: what says when is obeyed at that moment,
    what does not (a cache, files) is found by the rounds."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{backend}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_COOKIE_AGE = 3
    site = await serve_site(limits={"recheck_s": 1.0})

    client = await site.of_session(kind, await log_in(user))
    assert await stays(client)

    assert await code_of(client) == 3005


@both
async def test_a_session_that_was_renewed_keeps_its_sockets(
    rights, user, kind, log_in, until
):
    """Looked at again when it is due: a sliding session's end has moved on."""
    browser = await log_in(user)
    client = await rights.of_session(kind, browser)
    (connection,) = rights.connections.of_user(str(user.pk))
    rows = Session.objects.filter(session_key=browser.key)

    async def ends_in(seconds):
        moment = timezone.now() + datetime.timedelta(seconds=seconds)
        await rows.aupdate(expire_date=moment)
        return moment.timestamp()

    soon = await ends_in(1.0)
    rights.rechecks.look_again([str(user.pk)])
    await until(lambda: connection.standing.expires_at == soon)
    later = await ends_in(3600)

    await until(lambda: connection.standing.expires_at == later)
    assert time.time() >= soon and await stays(client)


@both
async def test_a_session_that_ends_is_known_without_rounds(rights, user, kind, log_in):
    """Its end is read soon after it let a socket in, and obeyed when it comes."""
    browser = await log_in(user)

    def shorten():
        session = browser.client.session
        session.set_expiry(2)
        session.save()

    await sync_to_async(shorten)()
    client = await rights.of_session(kind, browser)

    assert await code_of(client) == 3005


@both
@pytest.mark.parametrize("end", ["flush", "delete"])
async def test_a_session_that_nobody_logged_out_of_is_missed(
    serve_site, user, kind, log_in, end
):
    """Deleted in the table, or flushed by code of the site's: no signal says so, the rounds
    find it."""
    site = await serve_site(limits={"recheck_s": 1.0})
    browser = await log_in(user)
    client = await site.of_session(kind, browser)

    if end == "flush":
        await sync_to_async(lambda: browser.client.session.flush())()
    else:
        await Session.objects.all().adelete()

    assert await code_of(client) == 3005


async def test_a_handlers_socket_ends_with_its_jwt(serve_site, user):
    """C-16: 3005 after `exp` and the grace; not before."""
    from rest_framework_simplejwt.tokens import AccessToken

    site = await serve_site(limits={"live_expiry_grace_s": 0.5}, **SIMPLEJWT)
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=datetime.timedelta(seconds=2))

    client = await site.open(HANDLER, {"Authorization": f"Bearer {token}"})
    assert await stays(client)

    assert await code_of(client) == 3005
    assert time.time() >= token["exp"] + 0.5
    assert site.engine.metrics["connections_expired"] == 1


async def test_a_live_client_may_renew_what_the_handshake_brought(serve_site, user):
    """A token of the header ends the connection as one of the connect command does, unless
    a new one comes; the handshake's own end is then of no interest."""
    from rest_framework_simplejwt.tokens import AccessToken

    site = await serve_site(limits={"live_expiry_grace_s": 0.0}, **SIMPLEJWT)
    short, long = AccessToken.for_user(user), AccessToken.for_user(user)
    short.set_exp(lifetime=datetime.timedelta(seconds=2))
    headers = {"Authorization": f"Bearer {short}"}
    first = await site.open(LIVE, headers)
    second = await site.open(LIVE, headers)

    assert (await first.result("refresh", token=str(long)))["expires"] is True

    assert await code_of(second) == 3005
    assert await stays(first)


# -- what no signal shows --------------------------------------------------------------


@both
async def test_the_rounds_find_a_user_whom_an_update_made_inactive(
    serve_site, user, django_user_model, kind, log_in
):
    """C-16: `QuerySet.update` sends no signal."""
    site = await serve_site(limits={"recheck_s": 1.0})
    client = await site.of_session(kind, await log_in(user))

    await django_user_model.objects.filter(pk=user.pk).aupdate(is_active=False)

    assert await code_of(client) == 3507


@both
async def test_the_rounds_find_a_token_that_sql_deleted(serve_site, user, kind, token):
    """Also a REST framework token is asked about again."""
    from django.db import connection
    from rest_framework.authtoken.models import Token

    site = await serve_site(limits={"recheck_s": 1.0})
    client = await site.of_token(kind, token)

    def delete():
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {Token._meta.db_table}")

    await sync_to_async(delete)()

    assert await code_of(client) == 3500


async def test_the_rounds_find_a_subscription_that_sql_turned_off(
    serve_site, user, log_in, until
):
    """For live connections and for readers."""
    from django.db import connection

    from redis_pubsub.models import Channel

    site = await serve_site(limits={"recheck_s": 1.0})
    chat = await Channel.objects.acreate(name="chat")
    await chat.asubscribe(user)
    browser = await log_in(user)
    live = await site.of_session(LIVE, browser)
    await live.subscribe("chat")
    await site.of_session(HANDLER, browser)

    def turn_off():
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {Subscription._meta.db_table} SET active = %s", [False])

    await sync_to_async(turn_off)()

    assert (await live.push("unsubscribe", "chat"))["code"] == 2000
    await until(lambda: site.engine.hub.channels.get("chat", 0) == 0)


async def test_the_rounds_go_on_while_the_database_is_away(
    serve_site, user, django_user_model, log_in, monkeypatch, until
):
    """Nobody is cut off because it cannot be asked; it is asked again."""
    from django.db import OperationalError

    from redis_pubsub.web import rechecks

    judge = rechecks.judge

    def down(standings):
        raise OperationalError("the database is away")

    site = await serve_site(limits={"recheck_s": 1.0})
    client = await site.of_session(HANDLER, await log_in(user))
    monkeypatch.setattr(rechecks, "judge", down)
    await django_user_model.objects.filter(pk=user.pk).aupdate(is_active=False)
    await until(lambda: site.engine.metrics["refresh_errors"] > 1, timeout_s=10)
    assert await stays(client)

    monkeypatch.setattr(rechecks, "judge", judge)
    assert await code_of(client) == 3507


async def test_a_method_of_the_sites_own_may_say_what_is_still_good(
    serve_site, user, token
):
    """The snippet of the docs: the rounds ask it, about all tokens it knew at once."""
    from django.db import connection

    site = await serve_site(
        limits={"recheck_s": 1.0},
        tokenauth_method="docs.snippets.still_good.key_method",
    )
    clients = [await site.of_token(kind, token) for kind in (HANDLER, LIVE)]
    site.rechecks.look_again([str(user.pk)])
    for client in clients:
        assert await stays(client)

    def delete():
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM authtoken_token")

    await sync_to_async(delete)()

    for client in clients:
        assert await code_of(client) == 3500


def by_permission(*, user, channel, **question):
    """The site's rule: a permission."""
    ASKED.append(channel)
    return user is not None and user.has_perm("auth.change_user")


ASKED: list[str] = []


async def test_after_redis_was_away_the_rounds_ask_the_sites_method_too(
    serve_site, user, log_in, redis_server, until
):
    """A page that could not reach Redis said nothing, and left no gap: once a round, and
    only then, since a method may be slow."""
    from django.contrib.auth.models import Permission

    site = await serve_site(
        limits={"recheck_s": 1.0}, authorize_method=f"{__name__}.by_permission"
    )
    permission = await Permission.objects.aget(codename="change_user")
    await user.user_permissions.aadd(permission)
    live = await site.of_session(LIVE, await log_in(user))
    await live.subscribe("accounts")

    # A round and more without any trouble.
    turns = []
    site.engine.rounds.visits.append(turns.append)
    ASKED.clear()
    await until(lambda: len(turns) > 11)
    assert ASKED == []

    through = user.user_permissions.through.objects
    await through.filter(user_id=user.pk).adelete()
    async with redis.asyncio.Redis.from_url(redis_server.url) as redis_client:
        for each in await redis_client.client_list(_type="pubsub"):
            await redis_client.client_kill_filter(_id=each["id"])

    assert (await live.push("unsubscribe", "accounts"))["code"] == 2000
