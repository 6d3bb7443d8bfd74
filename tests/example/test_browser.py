"""The example's pages in a real Chromium."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services import require

from .conftest import Chat

if TYPE_CHECKING or os.environ.get("REQUIRE_SERVICES"):
    from playwright import async_api
else:
    async_api = pytest.importorskip("playwright.async_api")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]
EVENT_MS = 10_000

Page = async_api.Page
expect = async_api.expect


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[async_api.Browser]:
    """A Chromium with a fresh profile."""
    require("Chromium (or its path in CHROMIUM)", CHROMIUM is not None)
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        yield browser
        await browser.close()


class Errors(list[str]):
    """What a page's scripts complained about."""

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and self.append(message.text),
        )


async def _log_in(
    chat: Chat, browser: async_api.Browser, name: str, errors: Errors
) -> Page:
    """A page of a context of its own, logged in and live."""
    context = await browser.new_context()
    context.set_default_timeout(EVENT_MS)
    page = await context.new_page()
    errors.watch(page)
    await page.goto(f"{chat.url}/login/")
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(chat.passwords[name])
    await page.get_by_role("button", name="Log in").click()
    await _is_live(page)
    return page


async def _is_live(page: Page) -> None:
    await expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()


async def test_what_ada_types_appears_on_bobs_page(
    chat: Chat, browser: async_api.Browser
) -> None:
    """P-20 in a browser: an alert where Bob reads something else, then both write on the
    live page and nobody reloads. What is written is shown as text."""
    errors = Errors()
    ada = await _log_in(chat, browser, "ada", errors)
    bob = await _log_in(chat, browser, "bob", errors)
    await ada.goto(f"{chat.url}/correspondences/new/")
    await ada.get_by_label("Subject").fill("Tea on Sunday?")
    await ada.get_by_label("Bob").check()
    await ada.get_by_role("button", name="Begin").click()
    await _is_live(ada)
    # Bob's alerts take up the new correspondence within a second: the page that lists
    # it again and is live hears it for certain.
    await bob.reload()
    await _is_live(bob)

    markup = "Will you come? <img src=x onerror=document.title='hacked'>"
    await ada.get_by_label("Your message").fill(markup)
    await ada.keyboard.press("Enter")

    toast = bob.get_by_role("link", name="new message from Ada Lovelace")
    await expect(toast).to_contain_text(markup)
    first = (
        bob.get_by_role("navigation", name="Correspondences").get_by_role("listitem").first
    )
    await expect(first).to_contain_text("Tea on Sunday?")
    await expect(first).to_contain_text("1 new")
    await expect(ada.get_by_role("log")).to_contain_text(markup)
    await expect(ada.get_by_label("Your message")).to_have_value("")

    await toast.click()
    messages = bob.get_by_role("log")
    await expect(messages.get_by_role("listitem")).to_have_count(1)
    await _is_live(bob)
    loaded = await bob.evaluate("performance.timeOrigin")
    await ada.get_by_label("Your message").fill("Bring the cards.")
    await ada.get_by_role("button", name="Send").click()
    await expect(messages.get_by_role("listitem").nth(1)).to_contain_text(
        "Bring the cards."
    )
    await bob.get_by_label("Your message").fill("I will.")
    await bob.keyboard.press("Enter")
    await expect(ada.get_by_role("log").get_by_role("listitem").nth(2)).to_contain_text(
        "I will."
    )

    assert await bob.evaluate("performance.timeOrigin") == loaded
    assert await ada.title() == "Tea on Sunday? · Correspondence"
    assert errors == []


async def test_a_page_that_lost_its_socket_comes_back_and_misses_nothing(
    chat: Chat, browser: async_api.Browser
) -> None:
    """It reconnects by itself, and what was written while it had no socket appears,
    once."""
    errors = Errors()
    sockets: list[async_api.WebSocketRoute] = []
    may_connect = asyncio.Event()

    async def connect(socket: async_api.WebSocketRoute) -> None:
        sockets.append(socket)
        await may_connect.wait()
        socket.connect_to_server()

    bob = await _log_in(chat, browser, "bob", errors)
    async with chat.people("ada") as [ada]:
        letters = await ada.begin("Interrupted", "Bob")
        await bob.route_web_socket(re.compile(letters), connect)
        may_connect.set()
        await bob.goto(chat.url + letters)
        messages = bob.get_by_role("log").get_by_role("listitem")
        await ada.send(letters, "before")
        await expect(messages).to_have_text([re.compile("before")])

        may_connect.clear()
        await sockets[0].close(code=1001, reason="the server is restarting")
        await ada.send(letters, "meanwhile")
        may_connect.set()
        await expect(messages).to_have_text([re.compile("before"), re.compile("meanwhile")])
        await ada.send(letters, "after")

        bodies = [re.compile(body) for body in ("before", "meanwhile", "after")]
        await expect(messages).to_have_text(bodies)
    assert len(sockets) == 2
    assert errors == []
