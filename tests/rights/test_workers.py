"""A right that ends, ends in every worker: two of gunicorn's, and sockets of both kinds in
each of them."""

from __future__ import annotations

import os
import signal

import aiohttp
import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission
from django.db import connection

from redis_pubsub import adisconnect
from redis_pubsub.models import Channel
from redis_pubsub.publishing.publisher import publisher
from tests.live.client import Live
from tests.processes import Process, free_port

from .conftest import HANDLER, LIVE, Handler, code_of, stays

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.may_block(reason="starts and stops server processes"),
]
both = pytest.mark.parametrize("kind", [HANDLER, LIVE])
WORKERS = 2


@pytest.fixture(scope="module")
def port(redis_server, django_db_setup):
    """Of a gunicorn with two workers that serve the tests' own database."""
    port = free_port()
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.rights.settings",
        "RIGHTS_DATABASE": str(connection.settings_dict["NAME"]),
        "REDIS_URL": redis_server.url,
    }
    command = ["-m", "gunicorn", "tests.rights.application:application"]
    command += ["--worker-class", "aiohttp.worker.GunicornWebWorker", "--no-control-socket"]
    command += ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}"]
    with Process(*command, env=env) as server:
        server.wait_for("Booting worker", times=WORKERS)
        server.wait_for_port(port)
        yield port
        assert server.end() == 0, server.output
    # Between two tests the tables are emptied under the running server; PostgreSQL then
    # refuses a look that crosses that, which is logged and made again.
    is_clean = "Traceback" not in server.output or "deadlock detected" in server.output
    assert is_clean, server.output


class Workers:
    """The server's workers, as clients reach them."""

    def __init__(self, http, url):
        self.http = http
        self.url = url
        self.pids = set()

    async def everywhere(self, kind, headers):
        """A client of a kind in each worker."""
        found = {}
        while len(found) < WORKERS:
            pid, client = await self._open(kind, headers)
            if pid in found:
                await client.ws.close()
            found.setdefault(pid, client)
        self.pids = set(found)
        return list(found.values())

    async def of_session(self, kind, browser):
        return await self.everywhere(kind, browser.headers(self.url))

    async def _open(self, kind, headers):
        if kind == HANDLER:
            ws = await self.http.ws_connect(f"{self.url}/mine", headers=headers)
            return int(await ws.receive_str()), Handler(ws)
        path = f"{self.url}/connection/websocket"
        client = Live(await self.http.ws_connect(path, headers=headers))
        await client.result("connect")
        return (await client.result("rpc", method="pid"))["data"], client


@pytest.fixture
async def workers(port, settings, redis_server):
    settings.REDIS_PUBSUB = {"url": redis_server.url, "prefix": "rights"}
    async with aiohttp.ClientSession() as http:
        yield Workers(http, f"http://127.0.0.1:{port}")
    publisher.close()


async def all_end(clients, code):
    assert [await code_of(client) for client in clients] == [code] * len(clients)


async def all_stay(clients):
    for client in clients:
        assert await stays(client)


@both
async def test_a_logout_ends_one_session_in_every_worker(workers, user, kind, log_in):
    """C-16: 3503 for this session; the user's other browser stays."""
    here, there = await log_in(user), await log_in(user)
    ending = await workers.of_session(kind, here)
    staying = await workers.of_session(kind, there)

    await sync_to_async(here.client.logout)()

    await all_end(ending, 3503)
    await all_stay(staying)


@both
async def test_a_deactivation_ends_a_user_in_every_worker(
    workers, user, other_user, kind, log_in
):
    ending = await workers.of_session(kind, await log_in(user))
    staying = await workers.of_session(kind, await log_in(other_user))

    user.is_active = False
    await user.asave()

    await all_end(ending, 3507)
    await all_stay(staying)


@both
async def test_a_new_password_ends_sessions_in_every_worker(
    workers, user, kind, log_in, token
):
    ending = await workers.of_session(kind, await log_in(user))
    staying = await workers.everywhere(kind, {"Authorization": f"Token {token}"})

    def change():
        user.set_password("another")
        user.save()

    await sync_to_async(change)()

    await all_end(ending, 3005)
    await all_stay(staying)


@both
async def test_a_deleted_token_ends_in_every_worker(workers, user, kind, token):
    from rest_framework.authtoken.models import Token

    ending = await workers.everywhere(kind, {"Authorization": f"Token {token}"})

    await (await Token.objects.aget(key=token)).adelete()

    await all_end(ending, 3500)


async def test_a_subscription_that_is_turned_off_stops_in_every_worker(
    workers, user, log_in
):
    """2000 for live clients; handlers hear other channels only."""
    chat = await Channel.objects.acreate(name="chat")
    news = await Channel.objects.acreate(name="news")
    subscription = await chat.asubscribe(user)
    await news.asubscribe(user)
    browser = await log_in(user)
    handlers = await workers.of_session(HANDLER, browser)
    clients = await workers.of_session(LIVE, browser)
    for client in clients:
        await client.subscribe("chat")

    subscription.active = False
    await subscription.asave()

    for client in clients:
        assert (await client.push("unsubscribe", "chat"))["code"] == 2000
    from redis_pubsub import apublish

    await apublish("chat", "late")
    await apublish("news", "now")
    for handler in handlers:
        # Readers leave in the same moment as live clients, give or take a query.
        heard = await handler.ws.receive_str()
        assert heard in ('"late"', '"now"')
        if heard == '"late"':
            assert await handler.ws.receive_str() == '"now"'
    await all_stay(handlers)


async def test_a_group_that_loses_a_permission_ends_it_in_every_worker(
    workers, user, log_in
):
    def grant():
        group = Group.objects.create(name="staff")
        group.permissions.add(Permission.objects.get(codename="change_user"))
        user.groups.add(group)
        return group

    group = await sync_to_async(grant)()
    clients = await workers.of_session(LIVE, await log_in(user))
    for client in clients:
        await client.subscribe("accounts")
        await client.subscribe("members:1")

    await sync_to_async(group.permissions.clear)()

    for client in clients:
        assert (await client.push("unsubscribe", "accounts"))["code"] == 2000
    await all_stay(clients)


@both
async def test_workers_that_lost_redis_make_up_for_what_was_said(
    workers, user, kind, log_in, redis_server
):
    """Their connections are cut, and in the same moment a session is ended."""
    clients = await workers.of_session(kind, await log_in(user))
    async with redis.asyncio.Redis.from_url(redis_server.url) as redis_client:
        for each in await redis_client.client_list(_type="pubsub"):
            await redis_client.client_kill_filter(_id=each["id"])

        await adisconnect(user)

    await all_end(clients, 3503)


@both
async def test_a_worker_that_stood_still_makes_up_for_what_was_said(
    workers, user, kind, log_in, redis_server
):
    """Stopped, cut off from Redis, and continued."""
    clients = await workers.of_session(kind, await log_in(user))
    for pid in workers.pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with redis.asyncio.Redis.from_url(redis_server.url) as redis_client:
            for each in await redis_client.client_list(_type="pubsub"):
                await redis_client.client_kill_filter(_id=each["id"])
        await adisconnect(user)
    finally:
        for pid in workers.pids:
            os.kill(pid, signal.SIGCONT)

    await all_end(clients, 3503)


async def test_the_browser_that_changes_its_password_is_back_with_all_it_missed(
    workers, user, log_in
):
    """Through Django's own view: 3005, then the new cookie lets it in."""
    browser = await log_in(user)
    clients = await workers.of_session(LIVE, browser)
    form = {"old_password": "secret", "new_password1": "n3w-pass-word"}
    form["new_password2"] = form["new_password1"]

    def change():
        user.is_staff = True
        user.save()
        return browser.client.post("/admin/password_change/", form)

    response = await sync_to_async(change)()

    assert response.status_code == 302
    await all_end(clients, 3005)
    await all_stay(await workers.of_session(LIVE, browser))
