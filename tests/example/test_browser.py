"""The example's pages in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis

from redis_pubsub.testing import RedisServer

from .chromium import (
    Chromium,
    Page,
    away_and_below,
    chromium,
    expect,
    in_order,
    is_live,
    log_in,
    messages,
    person,
    status,
    typing,
    write,
)
from .conftest import Chat
from .processtree import needs_proc

MISSED = ("one", "two", "three")
SAVE = """
from example.chat.models import Correspondence
letters = Correspondence.objects.get(pk={pk})
ada = letters.participants.get(username="ada")
for body in {bodies}:
    letters.messages.create(author=ada, body=body)
"""
# Every change of Bob's dot.
WATCH_BOB = """(bob) => {
    window.changes = [];
    const write = () => window.changes.push(bob.dataset.here);
    new MutationObserver(write).observe(bob, {attributeFilter: ["data-here"]});
}"""


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path) as browser:
        yield browser


async def _open(chat: Chat, page: Page, correspondence: str) -> Page:
    await page.goto(chat.url + correspondence)
    await is_live(page)
    return page


async def _begin(chat: Chat, subject: str) -> str:
    """A correspondence of Ada and Bob with one message."""
    async with chat.people("ada") as [ada]:
        letters = await ada.begin(subject, "Bob")
        await ada.send(letters, "before")
    return letters


async def _say(chat: Chat, letters: str, *bodies: str) -> None:
    async with chat.people("ada") as [ada]:
        for body in bodies:
            await ada.send(letters, body)


async def test_what_ada_types_appears_on_bobs_page(chat: Chat, browser: Chromium) -> None:
    """P-20 in a browser: an alert where Bob reads something else, then both write on the
    live page and nobody reloads. What is written is shown as text."""
    ada = await browser.logged_in(chat, "ada")
    bob = await browser.logged_in(chat, "bob")
    await ada.goto(f"{chat.url}/correspondences/new/")
    await ada.get_by_label("Subject").fill("Tea on Sunday?")
    await ada.get_by_label("Bob").check()
    await ada.get_by_role("button", name="Begin").click()
    await is_live(ada)
    # Bob's alerts take up the new correspondence within a second: the page that lists
    # it again and is live hears it for certain.
    await bob.reload()
    await is_live(bob)

    markup = "Will you come? <img src=x onerror=document.title='hacked'>"
    await write(ada, markup)

    toast = bob.get_by_role("link", name="new message from Ada Lovelace")
    await expect(toast).to_contain_text(markup)
    first = (
        bob.get_by_role("navigation", name="Correspondences").get_by_role("listitem").first
    )
    await expect(first).to_contain_text("Tea on Sunday?")
    await expect(first).to_contain_text("1 new")
    await expect(messages(ada)).to_have_text(in_order(markup))

    await toast.click()
    await expect(messages(bob)).to_have_count(1)
    await is_live(bob)
    loaded = await bob.evaluate("performance.timeOrigin")
    await ada.get_by_label("Your message").fill("Bring the cards.")
    await ada.get_by_role("button", name="Send").click()
    await expect(messages(bob)).to_have_text(in_order(markup, "Bring the cards."))
    await write(bob, "I will.")
    await expect(messages(ada)).to_have_text(in_order(markup, "Bring", "I will."))

    assert await bob.evaluate("performance.timeOrigin") == loaded
    assert await ada.title() == "Tea on Sunday? · Correspondence"
    assert await away_and_below(ada) == await away_and_below(bob) == []


@needs_proc
async def test_a_dot_comes_and_goes_with_a_participant_but_not_with_a_reload(
    chat: Chat, browser: Chromium
) -> None:
    """On two workers: each sees the other. A page that is loaded anew neither went nor
    came; one that is closed is seen to go, a few seconds later."""
    letters = await _begin(chat, "Dots")
    first, second = sorted(chat.workers)
    with chat.only(first):
        ada = await _open(chat, await browser.logged_in(chat, "ada"), letters)
        await expect(person(ada, "Ada")).to_contain_text("(here)")
        await expect(person(ada, "Bob")).to_contain_text("(away)")
    with chat.only(second):
        bob = await browser.logged_in(chat, "bob")
        await _open(chat, bob, letters)
    await expect(person(bob, "Ada")).to_contain_text("(here)")
    await expect(person(ada, "Bob")).to_contain_text("(here)")
    await person(ada, "Bob").evaluate(WATCH_BOB)

    await bob.reload()
    await is_live(bob)
    await expect(person(bob, "Bob")).to_contain_text("(here)")
    await bob.goto(f"{chat.url}/subscriptions/")
    await expect(person(ada, "Bob")).to_contain_text("(away)")
    await _open(chat, bob, letters)

    await expect(person(ada, "Bob")).to_contain_text("(here)")
    assert await ada.evaluate("window.changes") == ["false", "true"]


async def test_a_page_shows_who_is_typing(chat: Chat, browser: Chromium) -> None:
    """Until the text is gone, sent, or nothing more is heard of its writer. Who reads his
    own page is not told about himself."""
    letters = await _begin(chat, "Typing")
    ada = await _open(chat, await browser.logged_in(chat, "ada"), letters)
    bob = await _open(chat, await browser.logged_in(chat, "bob"), letters)
    field = bob.get_by_label("Your message")

    await field.press_sequentially("Dear")
    await expect(typing(ada)).to_have_text("Bob Noyce is typing")
    await field.clear()
    await expect(typing(ada)).to_have_count(0)

    await field.press_sequentially("Dear Ada")
    await expect(typing(ada)).to_have_text("Bob Noyce is typing")
    await field.press("Enter")
    await expect(messages(ada)).to_have_text(in_order("before", "Dear Ada"))
    await expect(typing(ada)).to_have_count(0)

    await field.press_sequentially("And")
    await expect(typing(ada)).to_have_text("Bob Noyce is typing")
    await expect(typing(bob)).to_have_count(0)
    await bob.context.close()
    await expect(typing(ada)).to_have_count(0)


async def test_what_was_written_while_a_page_was_offline_appears_once_and_in_order(
    chat: Chat, browser: Chromium
) -> None:
    """Below "While you were away"; the page says that it is offline, and goes on."""
    letters = await _begin(chat, "Offline")
    bob = await _open(chat, await browser.logged_in(chat, "bob"), letters)
    loaded = await bob.evaluate("performance.timeOrigin")
    await expect(person(bob, "Bob")).to_contain_text("(here)")

    await bob.context.set_offline(True)
    await expect(status(bob)).to_have_text("Offline")
    await expect(person(bob, "Bob")).not_to_contain_text("(")
    await _say(chat, letters, *MISSED)
    await expect(messages(bob)).to_have_text(in_order("before"))
    await bob.context.set_offline(False)

    await expect(messages(bob)).to_have_text(in_order("before", *MISSED))
    await is_live(bob)
    await expect(bob.get_by_text("While you were away")).to_be_visible()
    assert await away_and_below(bob) == list(MISSED)
    await expect(person(bob, "Bob")).to_contain_text("(here)")
    await _say(chat, letters, "after")
    await expect(messages(bob)).to_have_text(in_order("before", *MISSED, "after"))
    assert await bob.evaluate("performance.timeOrigin") == loaded


async def test_what_was_saved_while_the_server_was_down_appears_once_and_in_order(
    chat: Chat, browser: Chromium
) -> None:
    """W-12: all of gunicorn is killed; meanwhile a command saves, and publishes."""
    letters = await _begin(chat, "Down")
    bob = await _open(chat, await browser.logged_in(chat, "bob"), letters)
    loaded = await bob.evaluate("performance.timeOrigin")

    async with chat.killed():
        await expect(status(bob)).to_have_text("Reconnecting")
        [pk] = re.findall(r"\d+", letters)
        chat.manage("shell", "-c", SAVE.format(pk=pk, bodies=MISSED))

    await expect(messages(bob)).to_have_text(in_order("before", *MISSED))
    await is_live(bob)
    assert await away_and_below(bob) == list(MISSED)
    await _say(chat, letters, "after")
    await expect(messages(bob)).to_have_text(in_order("before", *MISSED, "after"))
    assert await bob.evaluate("performance.timeOrigin") == loaded


async def test_a_page_that_missed_what_nobody_keeps_loads_its_list(
    chat: Chat, browser: Chromium, redis_server: RedisServer
) -> None:
    """Redis forgot the channel: no recovery. The list comes from the database, without
    the page being loaded anew."""
    letters = await _begin(chat, "Forgotten")
    bob = await _open(chat, await browser.logged_in(chat, "bob"), letters)
    loaded = await bob.evaluate("performance.timeOrigin")
    channel = await bob.locator("[data-channel]").get_attribute("data-channel")

    await bob.context.set_offline(True)
    await expect(status(bob)).to_have_text("Offline")
    await _say(chat, letters, *MISSED)
    with Redis.from_url(redis_server.url) as redis:
        keys = list(redis.scan_iter(f"example:*{channel}*"))
        assert redis.delete(*keys) > 0
    await bob.context.set_offline(False)

    await expect(messages(bob)).to_have_text(in_order("before", *MISSED))
    assert await away_and_below(bob) == list(MISSED)
    await is_live(bob)
    await _say(chat, letters, "after")
    await expect(messages(bob)).to_have_text(in_order("before", *MISSED, "after"))
    assert await bob.evaluate("performance.timeOrigin") == loaded


async def test_what_is_saved_while_a_page_is_made_appears_on_it(
    browser: Chromium, redis_server: RedisServer, tmp_path: Path
) -> None:
    """After the query it is not in the page's HTML, and not lost; between the reading of
    the position and the query it comes twice, and is shown once."""
    settings = "tests.example.interrupted"
    with Chat(tmp_path, redis_server.url, DJANGO_SETTINGS_MODULE=settings) as chat:
        letters = await _begin(chat, "Interrupted")
        bob = await browser.logged_in(chat, "bob")

        response = await bob.goto(f"{chat.url}{letters}?before=one&after=two")

        await expect(messages(bob)).to_have_text(in_order("before", "one", "two"))
        assert response is not None
        html = (await response.text()).partition("data-messages")[2]
        assert re.findall("before|one|two", html) == ["before", "one"]
        # Nobody was away.
        assert await away_and_below(bob) == []
        await is_live(bob)
        await _say(chat, letters, "after")
        await expect(messages(bob)).to_have_text(in_order("before", "one", "two", "after"))


async def test_who_is_taken_out_is_told_and_hears_no_more(
    chat: Chat, browser: Chromium
) -> None:
    """The admin removes Bob; his open page says so, and what is written then is not for
    him."""
    letters = await _begin(chat, "Without Bob")
    bob = await _open(chat, await browser.logged_in(chat, "bob"), letters)
    ada_pk = await person(bob, "Ada").get_attribute("data-person")

    async with chat.people("ada") as [ada]:
        admin = letters.replace("/correspondences/", "/admin/chat/correspondence/")
        fields = {"subject": "Without Bob", "participants": ada_pk}
        status_code, _ = await ada.submit(f"{admin}change/", **fields)
        assert status_code == 200
        await expect(bob.get_by_role("alert").first).to_have_text(
            "You do not take part in this correspondence any more."
        )
        await ada.send(letters, "among ourselves")

    await bob.get_by_label("Your message").fill("And me?")
    await bob.get_by_role("button", name="Send").click()
    await expect(bob.get_by_text("Not sent")).to_be_visible()
    await expect(messages(bob)).to_have_text(in_order("before"))


async def test_without_scripts_a_page_shows_and_sends(
    chat: Chat, browser: Chromium
) -> None:
    """What is live is an addition: list and form are the server's."""
    letters = await _begin(chat, "Plain")
    page = await browser.page(java_script_enabled=False)
    await log_in(chat, page, "bob")

    await page.goto(chat.url + letters)
    await page.get_by_label("Your message").fill("by hand")
    await page.get_by_role("button", name="Send").click()

    await expect(messages(page)).to_have_text(in_order("before", "by hand"))
