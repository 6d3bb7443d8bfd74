"""The minimal users of `pubsub_acl`, on a real Redis: they can all that they have to, and
nothing else."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
import redis
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command

from redis_pubsub import apresence, presence, publish
from redis_pubsub.auth.tickets import aissue, issue
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.broker import Read
from redis_pubsub.broker.acl import users
from redis_pubsub.broker.scripts import HISTORY
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer
from tests.live.client import Live

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "the key of these tests, which is long enough"


def printed(**options):
    """What the command prints: rules by role, and passwords."""
    out = io.StringIO()
    call_command("pubsub_acl", stdout=out, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own: users are everybody's."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def admin(server):
    with redis.Redis(unix_socket_path=str(server.path)) as client:
        yield client
        client.acl_log_reset()


@pytest.fixture
def as_user(server, admin, settings, prefix):
    """``as_user(role)``: the settings of a process that logs in as one of them."""
    settings.REDIS_PUBSUB = {"prefix": prefix}
    names = {}
    for line in printed().splitlines():
        if line.startswith("ACL "):
            words = shlex.split(line)
            admin.execute_command(*words)
            name, password = words[2], words[5].removeprefix(">")
            names[name.rpartition("-")[2]] = f"unix://{name}:{password}@{server.path}"

    def log_in(role, **values):
        site = {
            "url": names[role],
            "prefix": prefix,
            "live": {"token_key": KEY},
            "channels": {
                "room:*": {
                    "subscribe": "anyone",
                    "publish": "anyone",
                    "history_size": 5,
                    "presence": True,
                    "join_leave": True,
                }
            },
            **values,
        }
        settings.REDIS_PUBSUB = site
        return site

    yield log_in
    publisher.close()


async def test_a_serving_process_can_all_that_it_does(
    as_user, serve, site, user, admin, prefix, until
):
    """Sockets, histories, presence, tickets, control messages, streams' posts, probes, the
    end of a process: and Redis has refused nothing."""
    as_user("serve", limits={"probe_s": 0.05})
    served = await serve()
    engine = served.engine
    ticket = await aissue(user)
    ada = Live(await served.connect("/connection/websocket"))
    await ada.result("connect", token=ticket)
    bob = Live(await served.connect("/connection/websocket"))
    await bob.result("connect", token=connection_token(user))
    for client in (ada, bob):
        await client.subscribe("room:1")

    await ada.result("publish", channel="room:1", data="hello")
    assert (await bob.push("pub", "room:1"))["data"] == "hello"
    assert len((await bob.result("presence", channel="room:1"))["presence"]) == 2
    assert (
        len((await bob.result("history", channel="room:1", limit=5))["publications"]) == 1
    )
    assert len(await apresence("room:1")) == 2
    assert await sync_to_async(issue)(user)
    store = engine.hub.broker.presence
    await store.begin("dead", 0.001)
    await until(lambda: not admin.exists(f"{prefix}:node:{{dead}}"))
    await store.reap("us", 1)
    assert b"dead" not in admin.smembers(f"{prefix}:nodes")
    await ada.result("unsubscribe", channel="room:1")
    await ada.ws.close()
    async with served.http.get(f"{served.url}/readyz") as ready:
        assert ready.status == 200, await ready.text()
    await engine.presence.close()

    assert admin.acl_log() == []


async def test_a_publishing_process_can_all_that_it_does(as_user, serve, user, admin):
    """From threads and coroutines, with and without history, out of an outbox, reading
    positions and presence: a serving process hears it, and Redis has refused nothing."""
    as_user("serve")
    served = await serve()
    client = Live(await served.connect("/connection/websocket"))
    await client.result("connect", token=connection_token(user))
    await client.subscribe("room:1")

    as_user("publish")
    await sync_to_async(publish)("room:1", "kept")
    await sync_to_async(publish)("room:1", "passing", history=False)
    said = [await client.push("pub", "room:1") for _ in range(2)]
    assert [each["data"] for each in said] == ["kept", "passing"]
    as_user("publish", outbox=True)
    await sync_to_async(publish)("room:1", "out of the outbox")
    assert (await client.push("pub", "room:1"))["data"] == "out of the outbox"
    assert len(await sync_to_async(presence)("room:1")) == 1
    assert await sync_to_async(issue)(user)
    (history,) = await sync_to_async(lambda: publisher.broker().read([Read("room:1")]))()
    assert history.position.offset == 2

    assert admin.acl_log() == []


@pytest.mark.parametrize("role", ["serve", "publish"])
def test_what_is_not_theirs_is_refused(as_user, server, prefix, role, admin):
    """Row 25: other projects' keys and channels, scripts of one's own, and everything that
    concerns the server."""
    url = as_user(role)["url"]
    refused = [
        ("GET", "other:{a}:meta"),
        ("SET", "other:{a}:meta", "1"),
        ("SET", f"{prefix}x:once:a", "1"),
        ("PUBLISH", "other:{a}:live", "x"),
        ("EVAL", "return 1", 0),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("SCRIPT", "FLUSH"),
        ("PSUBSCRIBE", "*"),
        ("MONITOR",),
        ("SHUTDOWN",),
    ]
    if role == "publish":
        refused += [
            ("SUBSCRIBE", f"{prefix}:{{a}}:live"),
            ("GETDEL", f"{prefix}:once:{{a}}"),
            ("SMEMBERS", f"{prefix}:nodes"),
            ("DEL", f"{prefix}:nodes"),
        ]
    with redis.Redis.from_url(url) as client:
        for command in refused:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
        assert client.ping()


def test_a_script_reaches_no_foreign_key(as_user, prefix, admin):
    """The keys of a script are asked about too."""
    admin.script_load(HISTORY.text)
    refused = pytest.raises(redis.exceptions.ResponseError, match=r"(?i)no permission")
    with redis.Redis.from_url(as_user("publish")["url"]) as client, refused:
        keys = ("other:{a}:meta", "other:{a}:stream")
        client.evalsha(HISTORY.sha, 2, *keys, "", 0, "f", 60, "e", "", "e", "", "")


def test_every_command_of_the_scripts_is_allowed():
    """A command that a script begins to use is noticed here."""
    folder = Path(__import__("redis_pubsub.broker").broker.__file__).parent
    called = {
        name.lower()
        for script in folder.glob("*.lua")
        for name in re.findall(r"redis\.call\('(\w+)'", script.read_text())
    }
    serve, _ = users("p")

    assert called and {f"+{name}" for name in called} <= set(serve.rules.split())


def test_an_acl_file_has_no_passwords(server, admin, settings, prefix):
    """Its lines are what Redis itself writes: users and hashes."""
    settings.REDIS_PUBSUB = {"prefix": prefix}
    text = printed(format="file", name="site")

    for line in text.splitlines():
        if line.startswith("user "):
            _, name, *rules = line.split()
            assert not any(rule.startswith(">") for rule in rules)
            admin.execute_command("ACL", "SETUSER", name, "reset", *rules)
    urls = re.findall(r"redis://(site-\w+):(\S+)@HOST", text)
    assert [name for name, _ in urls] == ["site-serve", "site-publish"]
    for name, password in urls:
        with redis.Redis.from_url(f"unix://{name}:{password}@{server.path}") as client:
            assert client.ping()


def test_a_prefix_means_itself(settings):
    """Its stars are no wildcards; a blank cannot be written in a rule."""
    assert r"~a\*b\?\[c\]:*" in users("a*b?[c]")[0].rules.split()
    settings.REDIS_PUBSUB = {"prefix": "a b"}
    with pytest.raises(CommandError, match="blank"):
        printed()
