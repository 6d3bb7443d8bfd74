"""The browser module in a real Chromium, against the served site.

``tests/browser`` has its every turn, with fakes; here is what only a browser can show.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from django.template import Context, Template
from django.test import RequestFactory, override_settings

from .chromium import (
    Chromium,
    Page,
    Route,
    away_and_below,
    chromium,
    expect,
    in_order,
    is_live,
    messages,
    person,
    status,
    typing,
    write,
)
from .conftest import WORKERS, Chat
from .processtree import needs_proc

NO_WEBSOCKET = "delete window.WebSocket;"
# What the page's one connection is told no to: the error's code.
CODE_OF = """async ([channel, action]) => {
    const { live } = await import("/static/redis_pubsub/redis_pubsub.js");
    const wishes = {
        subscribe: () => live().subscribe(channel).ready,
        publish: () => live().publish(channel, {}),
        presence: () => live().presence(channel),
        history: () => live().history(channel),
    };
    return wishes[action]().then(() => 0, (error) => error.code);
}"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path) as browser:
        yield browser


class Posts:
    """Brings a page's posts to the workers in turn, each over a connection of its own."""

    def __init__(self, chat: Chat) -> None:
        self.statuses: list[int] = []
        self._chat = chat
        self._workers = itertools.cycle(sorted(chat.workers))

    async def bring(self, route: Route) -> None:
        request = route.request
        cookies = await request.frame.page.context.cookies()
        session = {cookie["name"]: cookie["value"] for cookie in cookies}
        with self._chat.only(next(self._workers)):
            async with (
                aiohttp.ClientSession(cookies=session) as http,
                http.post(
                    request.url, data=request.post_data_buffer, headers=request.headers
                ) as response,
            ):
                self.statuses.append(response.status)
        await route.fulfill(status=response.status)


@needs_proc
async def test_without_websockets_a_page_is_as_live(chat: Chat, browser: Chromium) -> None:
    """Server-sent events, and posts that any worker takes: messages, presence, recovery,
    and who is typing, both ways."""
    async with chat.people("ada") as [writer]:
        letters = await writer.begin("No WebSocket", "Bob")
        await writer.send(letters, "before")
    ada = await browser.logged_in(chat, "ada")
    await ada.goto(chat.url + letters)
    await is_live(ada)
    bob = await browser.logged_in(chat, "bob", NO_WEBSOCKET)
    posts = Posts(chat)
    await bob.route("**/emulation", posts.bring)
    await bob.goto(chat.url + letters)
    await is_live(bob)
    assert await bob.locator("[data-transport]").get_attribute("data-transport") == "sse"
    await expect(person(bob, "Ada")).to_contain_text("(here)")
    await expect(person(ada, "Bob")).to_contain_text("(here)")

    field = bob.get_by_label("Your message")
    for _ in range(WORKERS):
        await field.press_sequentially("Dear")
        await expect(typing(ada)).to_have_text("Bob Noyce is typing")
        await field.clear()
        await expect(typing(ada)).to_have_count(0)
    await ada.get_by_label("Your message").press_sequentially("Dear")
    await expect(typing(bob)).to_have_text("Ada Lovelace is typing")
    await write(ada, "by socket")
    await expect(messages(bob)).to_have_text(in_order("before", "by socket"))

    await bob.context.set_offline(True)
    await expect(status(bob)).to_have_text("Offline")
    await write(ada, "meanwhile")
    await bob.context.set_offline(False)
    await expect(messages(bob)).to_have_text(in_order("before", "by socket", "meanwhile"))
    await is_live(bob)
    assert await away_and_below(bob) == ["meanwhile"]
    # Two subscriptions and the question who is here, then who is typing: to both workers.
    assert len(posts.statuses) >= 2 * WORKERS
    assert set(posts.statuses) == {204}


async def test_the_classic_script_serves_a_page_without_modules(
    chat: Chat, browser: Chromium
) -> None:
    """``{% live_script classic=True %}``: the same names at ``window.redisPubSub``."""
    async with chat.people("ada") as [ada]:
        letters = await ada.begin("Classic", "Bob")
        await ada.send(letters, "before")
        bob = await browser.logged_in(chat, "bob")
        await bob.goto(chat.url + letters)
        channel = await bob.locator("[data-channel]").get_attribute("data-channel")

        await _classic_page(chat, bob)
        await bob.evaluate(
            """(channel) => {
                const { live, byUser, upsert } = window.redisPubSub;
                const rows = (window.rows = new Map());
                const shown = document.querySelector("output");
                const subscription = live().subscribe(channel, (publication) => {
                    upsert(rows, publication);
                    shown.textContent = [...rows.values()].map((row) => row.body).join();
                });
                window.people = async () => byUser(await subscription.presence()).length;
                return subscription.ready;
            }""",
            channel,
        )
        await ada.send(letters, "hello")
        await ada.send(letters, "again")

        await expect(bob.locator("output")).to_have_text("hello,again")
        assert await bob.evaluate("window.people()") == 1
        kept = await bob.evaluate(
            """async (channel) => {
                const options = { limit: 2, reverse: true };
                const { publications } = await redisPubSub.live().history(channel, options);
                return publications.map((publication) => publication.data.body);
            }""",
            channel,
        )
        assert kept == ["again", "hello"]


async def test_a_channel_is_closed_to_who_does_not_take_part(
    chat: Chat, browser: Chromium
) -> None:
    """Whatever is asked, also where it is typed; and messages are nobody's to publish."""
    async with chat.people("ada") as [ada]:
        letters = await ada.begin("Closed", "Bob")
    bob = await browser.logged_in(chat, "bob")
    await bob.goto(chat.url + letters)
    channel = await bob.locator("[data-channel]").get_attribute("data-channel")
    eve = await browser.logged_in(chat, "eve")

    for action in ("subscribe", "publish", "presence", "history"):
        for name in (channel, f"typing:{channel}"):
            assert await eve.evaluate(CODE_OF, [name, action]) == 103, (name, action)
    assert await bob.evaluate(CODE_OF, [channel, "publish"]) == 103
    for action in ("subscribe", "presence", "history"):
        assert await bob.evaluate(CODE_OF, [channel, action]) == 0


async def _classic_page(chat: Chat, page: Page) -> None:
    """An empty page of the site with the classic script."""
    with override_settings(STATIC_URL="/static/"):
        script = Template("{% load redis_pubsub %}{% live_script classic=True %}").render(
            Context({"request": RequestFactory().get("/")})
        )
    await page.goto(f"{chat.url}/static/chat/times.js")
    await page.set_content(f"{script}<output></output>")
