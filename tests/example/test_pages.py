"""The example's small pages in a real Chromium: an import, a bell, a room, and
plain events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from .chromium import (
    Chromium,
    Locator,
    Page,
    chromium,
    expect,
    is_live,
    log_in,
    status,
    typing,
)
from .conftest import RECEIVE_S, WORKERS, Browser, Chat
from .processtree import needs_proc, owners_of_clients

# What an EventSource hears of a channel, kept where the test can read it.
LISTEN = """([channel]) => new Promise((resolve) => {
    window.heard = [];
    const source = new EventSource(`/events?channel=${encodeURIComponent(channel)}`);
    source.addEventListener("create", (event) => heard.push(JSON.parse(event.data).body));
    source.addEventListener("reset", () => heard.push("reset"));
    source.onerror = () => window.errors = (window.errors ?? 0) + 1;
    source.onopen = resolve;
})"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path) as browser:
        yield browser


async def begin_import(page: Page, chat: Chat, letters: list[str]) -> None:
    await page.goto(f"{chat.url}/import/")
    await page.get_by_label("Letters").fill("\n".join(letters))
    await page.get_by_role("button", name="Import").click()


@pytest.mark.may_block(reason="starts a worker process")
async def test_an_import_waits_for_a_worker_and_shows_how_far_it_is(
    chat: Chat, browser: Chromium
) -> None:
    """T-12: a process beside the server does it; done is done, for who comes later too."""
    ada = await browser.logged_in(chat, "ada")

    await begin_import(ada, chat, [f"letter {number}" for number in range(300)])
    bar = ada.get_by_role("progressbar")
    await expect(bar).to_have_attribute("state", "waiting")
    with chat.worker():
        await expect(bar).to_have_attribute("state", "done")

    await expect(bar).to_have_attribute("aria-label", "Importing letters")
    await expect(bar).to_have_attribute("aria-valuenow", "300")
    await expect(bar).to_have_attribute("aria-valuetext", "Done")
    await ada.reload()
    await expect(bar).to_have_attribute("state", "done")


async def test_an_import_is_nobody_elses(chat: Chat, browser: Chromium) -> None:
    """Bob's page has a bar of Bob's; Ada's channel refuses him."""
    async with chat.people("ada") as [ada]:
        _, page = await ada.get("/import/")
    found = re.search(r'<live-progress channel="([^"]+)"', page)
    assert found, page
    bob = await browser.logged_in(chat, "bob")
    await bob.goto(f"{chat.url}/import/")

    await bob.evaluate(
        "(channel) => document.querySelector('live-progress')"
        ".setAttribute('channel', channel)",
        found[1],
    )

    await expect(bob.get_by_role("progressbar")).to_have_attribute("state", "unavailable")


async def test_a_bell_rings_for_whom_it_is_for(chat: Chat, browser: Chromium) -> None:
    """At once on open pages, and the last notice on pages that are loaded later."""
    bob = await browser.logged_in(chat, "bob")
    eve = await browser.logged_in(chat, "eve")
    ada = await browser.logged_in(chat, "ada")
    await ada.goto(f"{chat.url}/notices/")

    async def send(text: str, to: str) -> None:
        await ada.get_by_label("Notice", exact=True).fill(text)
        await ada.get_by_label(to).check()
        await ada.get_by_role("button", name="Send").click()
        await is_live(ada)

    await send("Lunch at noon", "To everybody")
    for page in (ada, bob, eve):
        await expect(page.get_by_role("status", name="Notices")).to_contain_text("Lunch")
    await send("Your parcel is here", "Bob Noyce")
    await expect(bob.get_by_role("status", name="Notices")).to_contain_text("parcel")
    await expect(eve.get_by_role("status", name="Notices")).to_contain_text("Lunch")

    await bob.reload()
    await expect(bob.get_by_role("status", name="Notices")).to_contain_text("parcel")
    late = await browser.logged_in(chat, "bob")
    await expect(late.get_by_role("status", name="Notices")).to_contain_text("parcel")


async def test_in_a_room_one_says_and_the_others_hear(
    chat: Chat, browser: Chromium
) -> None:
    """Who is here and who is typing, too; a page that is loaded anew is in it again, and
    another room hears nothing."""
    ada, bob, eve = [await browser.logged_in(chat, name) for name in ("ada", "bob", "eve")]
    for page, room in ((ada, "tea"), (bob, "tea"), (eve, "attic")):
        await page.goto(f"{chat.url}/room/{room}/")
        await is_live(page)
    for page in (ada, bob):
        await expect(here(page)).to_have_text(["Ada Lovelace", "Bob Noyce"])
    await expect(here(eve)).to_have_text(["Eve"])

    await ada.get_by_label("Say something").press_sequentially("Tea <is> ready")
    await expect(typing(bob)).to_have_text("Ada Lovelace is typing")
    await ada.get_by_role("button", name="Say").click()
    for page in (ada, bob):
        await expect(said(page)).to_have_text(["Ada LovelaceTea <is> ready"])
    await expect(typing(bob)).to_have_count(0)

    await bob.reload()
    await expect(here(bob)).to_have_text(["Ada Lovelace", "Bob Noyce"])
    await expect(said(bob)).to_have_count(0)
    await say(bob, "Coming")
    await expect(said(ada).last).to_have_text("Bob NoyceComing")
    await say(ada, "Good")
    await expect(said(bob)).to_have_text(["Bob NoyceComing", "Ada LovelaceGood"])
    await bob.goto(chat.url)
    await expect(here(ada)).to_have_text(["Ada Lovelace"])
    await expect(said(eve)).to_have_count(0)


@pytest.mark.may_block(reason="kills and starts server processes")
async def test_a_room_comes_back_after_the_death_of_all_processes(
    chat: Chat, browser: Chromium
) -> None:
    """By itself; what is said then is heard, and meanwhile nobody is told it was sent."""
    ada, bob = [await browser.logged_in(chat, name) for name in ("ada", "bob")]
    for page in (ada, bob):
        await page.goto(f"{chat.url}/room/cellar/")
        await is_live(page)

    async with chat.killed():
        await expect(status(ada)).to_have_text("Reconnecting")
        await say(ada, "Lost")
        await expect(ada.get_by_text("nobody would have heard it")).to_be_visible()
        await expect(ada.get_by_label("Say something")).to_have_value("Lost")
    for page in (ada, bob):
        await is_live(page)
    await say(ada, "Found")

    await expect(said(bob)).to_have_text(["Ada LovelaceFound"])


async def test_who_logs_out_is_told_on_his_other_pages(
    chat: Chat, browser: Chromium
) -> None:
    """None of them goes on to look live, or asks for its socket again and again."""
    room = await browser.page()
    await log_in(chat, room, "ada")
    del chat.cookies["ada"]
    await room.goto(f"{chat.url}/room/tea/")
    await is_live(room)
    inbox, leaving = [await room.context.new_page() for _ in range(2)]
    for page in (inbox, leaving):
        await page.goto(chat.url)
        await is_live(page)

    await leaving.get_by_role("button", name="Log out").click()

    for page in (room, inbox):
        await expect(status(page)).to_have_text("Not live")
    await expect(room.get_by_text("You may be logged out")).to_be_visible()


def here(page: Page) -> Locator:
    return page.get_by_role("list", name="Who is here").get_by_role("listitem")


def said(page: Page) -> Locator:
    return page.get_by_role("log", name="Said").get_by_role("listitem")


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Say something").fill(text)
    await page.get_by_role("button", name="Say").click()


@pytest.mark.may_block(reason="kills and starts server processes")
async def test_an_event_source_survives_the_death_of_all_processes(
    chat: Chat, browser: Chromium
) -> None:
    """C-18: It comes back by itself, with its place in the channel: nothing missed, nothing
    twice."""
    async with chat.people("ada") as [writer]:
        letters = await writer.begin("Plain events", "Bob")
        channel = await writer.channel_of("Plain events")
        bob = await browser.logged_in(chat, "bob")
        await bob.evaluate(LISTEN, [channel])
        await writer.send(letters, "before")
        await bob.wait_for_function("heard.includes('before')")

        async with chat.killed():
            await bob.wait_for_function("window.errors > 0")
            for body in ("first", "second"):
                post(chat, letters, body)
        await bob.wait_for_function("heard.includes('second')")
        await writer.send(letters, "after")
        await bob.wait_for_function("heard.includes('after')")

    assert await bob.evaluate("heard") == ["before", "first", "second", "after"]


def post(chat: Chat, letters: str, body: str) -> None:
    """A letter that no server was there for: written by a command."""
    [pk] = re.findall(r"\d+", letters)
    code = (
        "from django.contrib.auth import get_user_model as users\n"
        "from example.chat.models import Correspondence\n"
        f"c = Correspondence.objects.get(pk={pk})\n"
        f"c.messages.create(author=users().objects.get(username='ada'), body={body!r})"
    )
    chat.manage("shell", "--command", code)


@needs_proc
async def test_streams_on_both_workers_hear_the_same(chat: Chat) -> None:
    """Whichever process has a stream, and whichever took the letter."""
    async with chat.people("ada", "bob") as [ada, bob]:
        letters = await ada.begin("Both workers", "Bob")
        channel = await bob.channel_of("Both workers")
        streams = await open_streams(chat, bob, channel)

        await ada.send(letters, "to all")

        for stream in streams:
            async with asyncio.timeout(RECEIVE_S):
                while b'"to all"' not in await stream.content.readline():
                    pass
            stream.close()


async def open_streams(
    chat: Chat, browser: Browser, channel: str
) -> list[aiohttp.ClientResponse]:
    """Streams, so many that every worker has one."""
    streams: list[aiohttp.ClientResponse] = []
    while len(streams) < 64:
        streams.append(await browser.open_stream("/events", channel))
        owners = owners_of_clients(chat.port, chat.workers)
        ports = [
            stream.connection.transport.get_extra_info("sockname")[1] for stream in streams
        ]
        if len({owners[port] for port in ports}) == WORKERS:
            return streams
    raise AssertionError("one worker took all streams")
