"""What Django's signals say reaches open sockets of both kinds, by itself."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.http import HttpRequest

from redis_pubsub.auth.tickets import aissue
from redis_pubsub.contrib.websockets.socket import HandlerSocket
from redis_pubsub.models import Channel, Subscription
from redis_pubsub.web.handshake import Gatekeeper

from .conftest import HANDLER, LIVE, Browser, Handler, code_of, stays

pytestmark = pytest.mark.django_db(transaction=True)
both = pytest.mark.parametrize("kind", [HANDLER, LIVE])


@both
async def test_a_logout_ends_the_sockets_of_that_session_only(rights, user, kind, log_in):
    """C-16: 3503; the user's other browser, and his tokens, stay."""
    here, there = await log_in(user), await log_in(user)
    first = await rights.of_session(kind, here)
    second = await rights.of_session(kind, there)

    await sync_to_async(here.client.logout)()

    assert await code_of(first) == 3503
    assert await stays(second)


@both
async def test_a_logout_ends_what_its_tickets_opened(rights, user, kind, log_in):
    """The page asked with that session; a ticket of the other one stays."""
    here, there = await log_in(user), await log_in(user)
    first = await rights.of_ticket(kind, await aissue(user, session=here.key))
    second = await rights.of_ticket(kind, await aissue(user, session=there.key))

    await sync_to_async(here.client.logout)()

    assert await code_of(first) == 3503
    assert await stays(second)


@both
async def test_a_deleted_token_ends_what_its_tickets_opened(rights, user, kind, token):
    """3500, as the token's own sockets."""
    client = await rights.of_ticket(kind, await aissue(user, token=token))

    await user.auth_token.adelete()

    assert await code_of(client) == 3500


@both
async def test_a_new_password_ends_what_tickets_opened(rights, user, kind):
    """3005: who comes back asks for a new one."""
    client = await rights.of_ticket(kind, await aissue(user))

    user.set_password("another")
    await user.asave()

    assert await code_of(client) == 3005


@both
async def test_who_logs_in_as_somebody_else_comes_back_as_him(
    rights, user, other_user, kind, log_in
):
    """The browser's session is another one: sockets of the one before end with 3011."""
    browser = await log_in(user)
    client = await rights.of_session(kind, browser)

    def log_in_through_the_view():
        other_user.is_staff = True
        other_user.save()
        form = {"username": other_user.username, "password": "secret"}
        return browser.client.post("/admin/login/", form)

    assert (await sync_to_async(log_in_through_the_view)()).status_code == 302

    assert await code_of(client) == 3011
    await rights.of_session(kind, browser)
    assert rights.connections.of_user(str(other_user.pk))


@both
async def test_the_end_of_a_user_ends_his_sockets(rights, user, other_user, kind, log_in):
    """`is_active = False`: 3507, and others stay; `delete()` the same."""
    ada = await rights.of_session(kind, await log_in(user))
    bob = await rights.of_session(kind, await log_in(other_user))

    user.is_active = False
    await user.asave()
    assert await code_of(ada) == 3507
    assert await stays(bob)

    await other_user.adelete()
    assert await code_of(bob) == 3507


@both
async def test_nothing_ends_before_the_commit_or_after_a_rollback(
    rights, user, kind, log_in
):
    """The row as others see it decides."""
    ada = await rights.of_session(kind, await log_in(user))

    def change(fails):
        with transaction.atomic():
            user.is_active = False
            user.save()
            if fails:
                transaction.set_rollback(True)

    await sync_to_async(change)(True)
    assert await stays(ada)

    await sync_to_async(change)(False)
    assert await code_of(ada) == 3507


@both
async def test_a_new_password_ends_sessions_and_leaves_tokens(
    rights, user, kind, log_in, token
):
    """3005: a browser comes back with the session it has by now."""
    by_session = await rights.of_session(kind, await log_in(user))
    by_token = await rights.of_token(kind, token)

    def change():
        user.set_password("another")
        user.save()

    await sync_to_async(change)()

    assert await code_of(by_session) == 3005
    assert await stays(by_token)


async def test_the_session_that_changed_the_password_comes_back(rights, user, log_in):
    """`update_session_auth_hash` gives the browser another key: its sockets end with 3005
    and are let in with it; other browsers are not."""
    here, there = await log_in(user), await log_in(user)
    first = await rights.of_session(LIVE, here)
    second = await rights.of_session(LIVE, there)

    def change():
        request = HttpRequest()
        request.session, request.user = here.client.session, user
        user.set_password("another")
        user.save()
        update_session_auth_hash(request, user)
        request.session.save()
        here.client.cookies["sessionid"] = request.session.session_key

    await sync_to_async(change)()

    assert await code_of(first) == 3005 and await code_of(second) == 3005
    assert await stays(await rights.of_session(LIVE, here))
    ws = await rights.served.connect(
        "/connection/websocket", headers=there.headers(rights.served.url)
    )
    await ws.send_json({"id": 1, "connect": {}})
    assert await code_of(Handler(ws)) == 3507


@both
async def test_a_deleted_token_ends_its_sockets(rights, user, kind, log_in, token):
    """3500: that token's; a session of the same user stays."""
    from rest_framework.authtoken.models import Token

    by_token = await rights.of_token(kind, token)
    by_session = await rights.of_session(kind, await log_in(user))

    await Token.objects.filter(user=user).adelete()

    assert await code_of(by_token) == 3500
    assert await stays(by_session)


async def test_a_login_alone_looks_at_nobody(rights, user, until):
    """It saves `last_login`, which ends no right."""
    told = []
    rights.engine.control.handlers.append(
        lambda event: told.append(event.users) if event.kind == "refresh" else None
    )

    await sync_to_async(Browser)(user)
    await user.asave(update_fields=["first_name"])
    await user.asave(update_fields=["email"])

    await until(lambda: len(told) >= 2)
    assert told == [[str(user.pk)]] * 2


async def test_who_ends_while_a_handler_lets_him_in_does_not_stay(
    rights, user, token, monkeypatch
):
    """Between the look at who he is and the first line of the handler; there are no rounds
    that would find it later."""
    prepare = HandlerSocket.prepare

    async def slowly(socket, request):
        heard = rights.rechecks.heard
        user.is_active = False
        await user.asave()
        async with asyncio.timeout(5):
            while rights.rechecks.heard == heard:
                await asyncio.sleep(0.005)
        return await prepare(socket, request)

    monkeypatch.setattr(HandlerSocket, "prepare", slowly)

    headers = {"Authorization": f"Token {token}"}
    ws = await rights.served.connect("/mine", headers=headers)

    assert await code_of(Handler(ws)) == 3507


@both
async def test_who_logs_out_while_he_is_let_in_does_not_stay(
    rights, user, kind, log_in, monkeypatch
):
    """The session was good when it was looked up."""
    browser = await log_in(user)
    standing_of = Gatekeeper.standing_of

    async def slowly(gatekeeper, credentials):
        standing = await standing_of(gatekeeper, credentials)
        await sync_to_async(browser.client.logout)()
        async with asyncio.timeout(5):
            while rights.connections.ended_since(0, standing) is None:
                await asyncio.sleep(0.005)
        return standing

    headers = browser.headers(rights.served.url)
    monkeypatch.setattr(Gatekeeper, "standing_of", slowly)
    path = "/mine" if kind == HANDLER else "/connection/websocket"
    ws = await rights.served.connect(path, headers=headers)
    await ws.send_json({"id": 1, "connect": {}})

    assert await code_of(Handler(ws)) == 3503


# -- subscriptions ---------------------------------------------------------------------


def turn_off(subscription):
    subscription.active = False
    subscription.save()


def turn_all_off(subscription):
    Subscription.objects.filter(pk=subscription.pk).update(active=False)


def delete(subscription):
    subscription.delete()


def delete_all(subscription):
    Subscription.objects.filter(pk=subscription.pk).delete()


def delete_channel(subscription):
    subscription.channel.delete()


def delete_channels(subscription):
    Channel.objects.filter(pk=subscription.channel_id).delete()


@pytest.mark.parametrize(
    "end",
    [turn_off, turn_all_off, delete, delete_all, delete_channel, delete_channels],
)
async def test_however_a_subscription_ends_that_channel_stops(
    rights, user, log_in, until, end
):
    """A live client gets 2000, final; a handler's reader ends; other channels go on."""
    chat = await Channel.objects.acreate(name="chat")
    news = await Channel.objects.acreate(name="news")
    subscription = await chat.asubscribe(user)
    await news.asubscribe(user)
    browser = await log_in(user)
    live = await rights.of_session(LIVE, browser)
    for name in ("chat", "news"):
        await live.subscribe(name)
    handler = await rights.of_session(HANDLER, browser)
    assert rights.engine.hub.channels["chat"] == 2

    await sync_to_async(end)(subscription)

    assert (await live.push("unsubscribe", "chat"))["code"] == 2000
    await until(lambda: rights.engine.hub.channels.get("chat", 0) == 0)
    assert rights.engine.hub.channels["news"] == 2
    assert await stays(handler)


# -- permissions and groups ------------------------------------------------------------


def by_permission(*, user, channel, **question):
    """The site's rule: a permission."""
    return user is not None and user.has_perm("auth.change_user")


def change_user():
    return Permission.objects.get(
        content_type=ContentType.objects.get(app_label="auth", model="user"),
        codename="change_user",
    )


def to_user(user):
    user.user_permissions.add(change_user())


def to_group(user):
    group = Group.objects.create(name="staff")
    group.permissions.add(change_user())
    user.groups.add(group)


def group():
    return Group.objects.get(name="staff")


ENDS = {
    "user.user_permissions.remove": (to_user, lambda u: u.user_permissions.clear()),
    "permission.user_set.clear": (to_user, lambda u: change_user().user_set.clear()),
    "user.groups.remove": (to_group, lambda u: u.groups.remove(group())),
    "user.groups.clear": (to_group, lambda u: u.groups.clear()),
    "group.user_set.remove": (to_group, lambda u: group().user_set.remove(u)),
    "group.user_set.clear": (to_group, lambda u: group().user_set.clear()),
    "group.permissions.remove": (
        to_group,
        lambda u: group().permissions.remove(change_user()),
    ),
    "group.permissions.clear": (to_group, lambda u: group().permissions.clear()),
    "permission.group_set.clear": (to_group, lambda u: change_user().group_set.clear()),
    "group.delete": (to_group, lambda u: group().delete()),
    "groups.delete": (to_group, lambda u: Group.objects.all().delete()),
}


@pytest.mark.parametrize(("grant", "end"), ENDS.values(), ids=ENDS)
async def test_what_a_permission_granted_ends_with_it(serve_site, user, log_in, grant, end):
    """From either side of each relation: the hook is asked anew, about a user whose
    permissions were read anew; the connection stays."""
    site = await serve_site(
        limits={"recheck_s": 0}, authorize_method=f"{__name__}.by_permission"
    )
    await sync_to_async(grant)(user)
    live = await site.of_session(LIVE, await log_in(user))
    await live.subscribe("accounts")

    await sync_to_async(end)(user)

    assert (await live.push("unsubscribe", "accounts"))["code"] == 2000
    assert await stays(live)


async def test_the_members_of_a_large_group_are_not_named(
    serve_site, user, log_in, monkeypatch
):
    """Then every process looks at all it has."""
    from redis_pubsub.publishing import revocation

    monkeypatch.setattr(revocation, "USERS_MOST", 0)
    site = await serve_site(
        limits={"recheck_s": 0}, authorize_method=f"{__name__}.by_permission"
    )
    await sync_to_async(to_group)(user)
    live = await site.of_session(LIVE, await log_in(user))
    await live.subscribe("accounts")

    await sync_to_async(ENDS["group.permissions.remove"][1])(user)

    assert (await live.push("unsubscribe", "accounts"))["code"] == 2000


async def test_many_sockets_are_looked_at_in_the_same_queries(
    rights, django_user_model, log_in, queries, until
):
    """Users, sessions, rows, and whether there are groups: a query each, however many
    sockets."""
    chat = await Channel.objects.acreate(name="chat")
    clients, users = [], []
    for n in range(5):
        user = await sync_to_async(django_user_model.objects.create_user)(f"u{n}")
        await chat.asubscribe(user)
        browser = await log_in(user)
        users.append(str(user.pk))
        for _ in range(2):
            client = await rights.of_session(LIVE, browser)
            await client.subscribe("chat")
            clients.append(client)
    queries.clear()

    rights.rechecks.look_again(users)

    await until(lambda: rights.rechecks._task is None)
    assert len([sql for sql in queries if sql.startswith("SELECT")]) == 4, queries
    for client in clients:
        assert await client.silent() == []


async def test_a_failing_redis_does_not_break_the_save(rights, user, settings, site):
    """It is logged and counted; the rounds find it."""
    from redis_pubsub.publishing.publisher import publisher

    settings.REDIS_PUBSUB = site | {"url": "redis://127.0.0.1:1/0"}
    failed = publisher.metrics["publish_failed"]
    user.is_active = False

    await user.asave()

    await user.arefresh_from_db()
    assert not user.is_active and publisher.metrics["publish_failed"] > failed
