"""docs/howto/live.rst and docs/howto/clients.rst: what they show, over real connections."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import textwrap
from urllib.parse import quote

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connections
from django.template import Context, Template

from redis_pubsub import apublish
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.websockets import load_handlers
from redis_pubsub.models import Channel
from redis_pubsub.publishing.positions import positions
from redis_pubsub.testing import pubsub_site
from tests.processes import ROOT

DOCS = ROOT / "docs"
SHOWN = DOCS / "snippets/live"
URL = "/connection/websocket"
UNSHOWN = {"__init__.py", "apps.py", "urls.py"}
"""Files that hold the others together."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shown(settings, site, rooms):
    """The page's settings, on the test's own Redis."""
    values = runpy.run_path(str(SHOWN / "settings.py"))["REDIS_PUBSUB"]
    settings.REDIS_PUBSUB = values | site
    return rooms


@pytest.fixture
def room(shown, user):
    row = shown("models").Room.objects.create()
    row.members.add(user)
    return row


def get(client, path):
    try:
        return client.get(path).content.decode()
    finally:
        connections.close_all()


class Browser:
    """A page's connection: its session cookie, its Origin."""

    def __init__(self, ws):
        self.ws = ws
        self.replies = {}
        self.pushes = []
        self._last = 0

    async def ask(self, **request):
        """Send a command; its reply."""
        self._last += 1
        await self.ws.send_json({"id": self._last, **request})
        while self._last not in self.replies:
            await self._receive()
        return self.replies[self._last]

    async def push(self, kind):
        """The next push of a kind."""
        while True:
            for push in self.pushes:
                if kind in push:
                    self.pushes.remove(push)
                    return push
            await self._receive()

    async def _receive(self):
        for line in (await self.ws.receive_str()).split("\n"):
            reply = json.loads(line)
            if "push" in reply:
                self.pushes.append(reply["push"])
            elif "id" in reply:
                self.replies[reply["id"]] = reply


@pytest.fixture
async def browse(shown, serve, client):
    """``await browse(user)``: a page of a logged-in user has connected."""
    served = await serve(*load_handlers())

    async def open_page(user=None, **connect):
        headers = {"Origin": served.url}
        if user is not None:
            await sync_to_async(client.force_login)(user)
            cookie = client.cookies["sessionid"].value
            headers["Cookie"] = f"sessionid={cookie}"
        browser = Browser(await served.connect(URL, headers=headers))
        browser.url = served.url
        browser.connected = await browser.ask(connect=connect)
        return browser

    return open_page


def position_in(html, channel):
    found = {}
    for text in re.findall(r"<script[^>]*data-live-position>(.*?)</script>", html, re.S):
        found |= json.loads(text)
    return found[channel]


def test_every_file_of_the_howto_is_shown():
    """What is executed here, a page includes."""
    pages = "".join(page.read_text() for page in DOCS.rglob("*.rst"))
    files = [
        path
        for path in SHOWN.rglob("*")
        if path.suffix in (".py", ".html") and path.name not in UNSHOWN
    ]

    assert files
    assert [path for path in files if f"{path.relative_to(DOCS)}" not in pages] == []


@pytest.mark.parametrize("page", ["rooms", "class", "log"])
async def test_what_is_saved_after_the_page_was_made_arrives(
    room, shown, browse, client, user, page
):
    """The page says where the channel stood; the client gets the rest, with its tags."""
    browser = await browse(user)
    before = await shown("models").Post.objects.acreate(room=room, text="before")

    html = await sync_to_async(get)(client, f"/{page}/{room.pk}/")
    after = await shown("models").Post.objects.acreate(room=room, text="after")
    position = position_in(html, room.channel_name)
    subscribed = await browser.ask(
        subscribe={"channel": room.channel_name, "recover": True, **position}
    )

    assert "before" in html and "after" not in html and before.pk != after.pk
    [publication] = subscribed["subscribe"]["publications"]
    assert publication["data"] == {"text": "after"}
    assert publication["tags"] == {
        "event": "create",
        "model": "rooms.post",
        "pk": str(after.pk),
    }


async def test_the_hook_looks_at_the_action(room, browse, user, other_user):
    """A member hears the room and may not publish in it; others may do nothing."""
    member, other = await browse(user), await browse(other_user)
    typing = f"typing:{room.pk}"

    heard = await member.ask(subscribe={"channel": room.channel_name})
    assert "subscribe" in heard
    denied = await member.ask(publish={"channel": room.channel_name, "data": {}})
    assert denied["error"]["code"] == 103
    for channel in (room.channel_name, typing):
        answer = await other.ask(subscribe={"channel": channel})
        assert answer["error"]["code"] == 103
    answer = await other.ask(publish={"channel": typing, "data": {}})
    assert answer["error"]["code"] == 103


async def test_typing_is_heard_and_not_kept(room, browse, user):
    """By a client's publish on a channel without history."""
    browser = await browse(user)
    channel = f"typing:{room.pk}"
    assert await browser.ask(subscribe={"channel": channel}) == {"id": 2, "subscribe": {}}

    await browser.ask(publish={"channel": channel, "data": {}})

    push = await browser.push("pub")
    assert push["pub"]["info"]["user"] == str(user.pk) and "offset" not in push["pub"]


async def test_typing_by_a_call_is_not_kept_either(room, browse, user):
    """`publish(..., history=False)` on a channel that keeps its messages."""
    browser = await browse(user)
    await browser.ask(subscribe={"channel": room.channel_name})

    await browser.ask(rpc={"method": "typing", "data": room.pk})

    pub = (await browser.push("pub"))["pub"]
    assert pub["tags"] == {"event": "typing"} and "offset" not in pub


async def test_a_call_is_checked_and_answered(room, shown, browse, user, other_user):
    """Typed data, a result, Django's `PermissionDenied`, an `RPCError`."""
    member, other = await browse(user), await browse(other_user)

    async def say(browser, **data):
        return await browser.ask(rpc={"method": "say", "data": data})

    answer = await say(member, room=room.pk, text="hello")
    post = await shown("models").Post.objects.aget()
    assert answer["rpc"]["data"] == {"pk": post.pk}
    assert (await say(member, room="x", text=""))["error"]["code"] == 107
    assert (await say(other, room=room.pk, text=""))["error"]["code"] == 103
    assert (await say(member, room=room.pk, text="a" * 501))["error"]["code"] == 413


async def test_the_testing_kit_serves_the_endpoint_and_its_calls(room, shown, user):
    """docs/howto/testing.rst: a connection of a logged-in user, and a call without one."""
    async with pubsub_site() as served:
        browser = Browser(await served.connect(URL, user=user))
        await browser.ask(connect={})
        answer = await browser.ask(
            rpc={"method": "say", "data": {"room": room.pk, "text": ""}}
        )
    module = shown("websockets")
    called = await sync_to_async(module.say)(user, module.NewPost(room.pk, "hello"))

    assert [answer["rpc"]["data"]["pk"] + 1] == [called["pk"]]


async def test_a_message_without_an_answer_is_taken(browse, user, until):
    """`@on_message`, of which a site has one."""
    browser = await browse(user)

    await browser.ws.send_json({"send": {"data": 7}})
    # Commands are carried out in order, so this one's reply comes after the first.
    await browser.ask(ping={})

    assert await cache.aget(f"seen:{user.pk}") == 7


async def test_a_users_tabs_are_one_dot(room, browse, user):
    """`presence_by`: one entry, one join, however many tabs."""
    first, second = await browse(user), await browse(user)
    await first.ask(subscribe={"channel": room.channel_name})
    join = await first.push("join")
    await second.ask(subscribe={"channel": room.channel_name})

    there = await first.ask(presence={"channel": room.channel_name})

    assert join["join"]["info"]["user"] == str(user.pk)
    assert [info["user"] for info in there["presence"]["presence"].values()] == [
        str(user.pk)
    ]


async def test_a_poke_arrives_on_the_personal_channel(browse, user, other_user, client):
    """Nobody has to subscribe to it."""
    browser = await browse(user)
    await browse(other_user)
    assert f"user:{user.pk}" in browser.connected["connect"]["subs"]

    answer = await sync_to_async(client.post)(f"/poke/{user.pk}/")

    assert answer.status_code == 204
    push = await browser.push("pub")
    assert push["channel"] == f"user:{user.pk}"
    assert push["pub"]["data"] == {"by": other_user.pk}
    assert push["pub"]["tags"] == {"event": "poke"}


async def test_the_token_of_the_view_is_good(browse, user, room, client):
    """`connection_token`, and what it lets others know."""
    await sync_to_async(client.force_login)(user)
    token = json.loads(await sync_to_async(get)(client, "/token/"))["token"]

    browser = await browse(token=token)

    assert browser.connected["connect"]["expires"]
    await browser.ask(subscribe={"channel": room.channel_name})
    join = await browser.push("join")
    assert join["join"]["info"]["conn_info"] == {"name": "ada"}


async def test_the_readmes_live_page_is_followed_by_anybody(settings, site, letters, serve):
    """README.rst: its settings, its template."""
    readme = (ROOT / "README.rst").read_text()
    blocks = re.findall(r"code-block:: (\w+)\n\n((?:    .*\n|\n)+)", readme)
    (code,) = [code for kind, code in blocks if kind == "python" and "REDIS_PUBSUB" in code]
    (page,) = [code for kind, code in blocks if kind == "html"]
    names = {}
    exec(textwrap.dedent(code), names)
    settings.REDIS_PUBSUB = names["REDIS_PUBSUB"] | site
    served = await serve()

    html = await sync_to_async(Template(page).render)(Context({"notes": []}))
    # Of the row that the tutorial's model publishes, the first makes the channel's row.
    await sync_to_async(Channel.objects.create)(name="board")
    await apublish("board", {"id": 1, "text": "milk"}, event="create")
    ws = await served.connect(URL)
    wish = {"channel": "board", "recover": True, **position_in(html, "board")}
    await ws.send_str('{"id":1,"connect":{}}\n' + json.dumps({"id": 2, "subscribe": wish}))
    await ws.receive_str()
    result = json.loads(await ws.receive_str())["subscribe"]

    assert result["recovered"]
    assert [each["data"]["text"] for each in result["publications"]] == ["milk"]


async def test_without_credentials_nobody_is_let_in(serve, shown):
    """The table of docs/reference/live.rst, "Who connects"."""
    served = await serve()

    async def refused(**connect):
        ws = await served.connect(URL)
        await ws.send_json({"id": 1, "connect": connect})
        await ws.receive()
        return ws.close_code

    assert await refused() == 3507
    assert await refused(token="a.b.c") == 3500


async def test_a_plain_value_joins_a_history_that_there_is(room, browse, user):
    """docs/reference/publishing.rst, "Which history"."""
    assert (await apublish("room:none", {"n": 1})).offset == 0
    browser = await browse(user)
    # Begins none by itself: no page and no row has asked for one.
    await browser.ask(subscribe={"channel": room.channel_name})
    await sync_to_async(positions)([room.channel_name])
    kept = await apublish(room.channel_name, {"n": 2})
    passing = await apublish(room.channel_name, {"n": 3}, history=False)

    assert (kept.offset, passing.offset) == (1, 0)


async def test_the_python_client_follows_a_room(room, shown, browse, user):
    """docs/howto/clients.rst: centrifuge-python with a token of the site's own."""
    centrifuge = pytest.importorskip("centrifuge")
    follow = runpy.run_path(str(SHOWN / "client.py"))["follow"]
    arrived = asyncio.Queue()
    subscribed = asyncio.Event()

    class Events(centrifuge.SubscriptionEventHandler):
        async def on_subscribed(self, context):
            subscribed.set()

        async def on_publication(self, context):
            arrived.put_nowait(context.pub)

    async def get_token():
        return connection_token(user, info={"name": "ada"})

    url = (await browse(user)).url.replace("http", "ws") + URL
    client = await follow(url, room.channel_name, get_token, Events())
    async with asyncio.timeout(5):
        await subscribed.wait()
        post = await shown("models").Post.objects.acreate(room=room, text="hello")
        publication = await arrived.get()

    assert publication.data == {"text": "hello"}
    assert publication.tags["pk"] == str(post.pk)
    await client.disconnect()


async def test_a_session_needs_an_origin_or_the_browsers_word(serve, shown, user, client):
    """docs/reference/live.rst, "Who connects": a page's own ``EventSource`` has no
    ``Origin``, and ``Sec-Fetch-Site`` instead."""
    served = await serve()
    await sync_to_async(client.force_login)(user)
    cookies = {"sessionid": client.cookies["sessionid"].value}
    url = f"{served.url}/connection/sse?cf_connect={quote(CONNECT)}"

    statuses = []
    for site in ("", "cross-site", "same-origin"):
        headers = {"Sec-Fetch-Site": site} if site else {}
        async with served.http.get(url, cookies=cookies, headers=headers) as answer:
            statuses.append(answer.status)

    assert statuses == [403, 403, 200]


CONNECT = '{"id":1,"connect":{}}'
