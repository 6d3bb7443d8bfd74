"""A real Chromium, and what people do on the example's pages with it.

Needs playwright: modules that import this are skipped without it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
EVENT_MS = 15_000
# What the browser itself writes to the console where there is no connection.
NETWORK = re.compile(r"Failed to load resource|WebSocket connection to|net::ERR_")

Page = async_api.Page
Route = async_api.Route
Locator = async_api.Locator
expect = async_api.expect
expect.set_options(timeout=EVENT_MS)


class Chromium:
    """A browser with a profile of its own.

    Attributes:
        errors: What the scripts of its pages complained about.
    """

    def __init__(self, browser: async_api.Browser) -> None:
        self._browser = browser
        self.errors: list[str] = []

    async def page(self, *init_scripts: str, **options: Any) -> Page:
        """A page of a context of its own, without cookies."""
        context = await self._browser.new_context(**options)
        context.set_default_timeout(EVENT_MS)
        for script in init_scripts:
            await context.add_init_script(script)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        return page

    def _heard(self, message: async_api.ConsoleMessage) -> None:
        if message.type == "error" and not NETWORK.search(message.text):
            self.errors.append(message.text)

    async def logged_in(self, chat: Chat, name: str, *init_scripts: str) -> Page:
        """A page of somebody's inbox."""
        page = await self.page(*init_scripts)
        cookies = chat.cookies.get(name)
        if cookies is None:
            await log_in(chat, page, name)
        else:
            await page.context.add_cookies(
                [
                    {"name": name, "value": value, "url": chat.url}
                    for name, value in cookies.items()
                ]
            )
            await page.goto(chat.url)
        await is_live(page)
        return page


@asynccontextmanager
async def chromium(home: Path) -> AsyncIterator[Chromium]:
    """Start one; in the end no script must have complained."""
    require("Chromium (or its path in CHROMIUM)", CHROMIUM is not None)
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=ARGUMENTS,
            env={**os.environ, "HOME": str(home)},
        )
        chromium = Chromium(browser)
        yield chromium
        await browser.close()
    assert not chromium.errors, chromium.errors


async def log_in(chat: Chat, page: Page, name: str) -> None:
    """By the form."""
    await page.goto(f"{chat.url}/login/")
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(chat.passwords[name])
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_url(f"{chat.url}/")
    chat.cookies[name] = {
        cookie["name"]: cookie["value"] for cookie in await page.context.cookies()
    }


async def is_live(page: Page) -> None:
    """Everything that is live on the page is."""
    await expect(status(page)).to_have_text("Live")


def status(page: Page) -> Locator:
    return page.locator("[data-status-text]")


def messages(page: Page) -> Locator:
    return page.get_by_role("log").get_by_role("listitem")


def person(page: Page, name: str) -> Locator:
    """One of the participants; "(here)" or "(away)" is in its text once that is known."""
    return (page.get_by_role("list", name="Participants").get_by_role("listitem")).filter(
        has_text=name
    )


def typing(page: Page) -> Locator:
    """Who is typing; there only while somebody is."""
    return page.get_by_text(re.compile(r"(is|are) typing$")).locator("visible=true")


async def write(page: Page, body: str) -> None:
    """Write a message and send it."""
    field = page.get_by_label("Your message")
    await field.fill(body)
    await field.press("Enter")
    await expect(field).to_have_value("")


def in_order(*bodies: str) -> list[re.Pattern[str]]:
    """For ``expect(messages(page)).to_have_text(…)``: these and no others."""
    return [re.compile(re.escape(body)) for body in bodies]


async def away_and_below(page: Page) -> list[str]:
    """What stands below "While you were away"; empty without it."""
    return await page.get_by_role("log").evaluate(
        """(list) => {
            const items = [...list.children];
            const away = items.findIndex((item) => item.matches("[role=separator]"));
            if (away < 0) return [];
            const rows = items.slice(away + 1);
            return rows.map((row) => row.querySelector("[data-body]").textContent);
        }"""
    )
