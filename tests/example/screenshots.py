"""The pictures of the documentation: ``python -m tests.example.screenshots [folder]``.

Serves the example with two workers, one for the background, and a Redis of its own, does
on its pages in a headless Chromium what people do, and writes what they see. Needs what
the browser tests need.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from redis_pubsub.testing import RedisServer

from .chromium import Chromium, Page, chromium, expect, is_live, person, typing, write
from .conftest import Chat

STATIC = Path(__file__).parents[2] / "docs" / "_static"
SIZE = {"width": 960, "height": 460}


async def take(chat: Chat, folder: Path, home: Path) -> None:
    """All pictures."""
    async with chromium(home) as browser:
        ada, bob = await _opened(chat, browser, "ada"), await _opened(chat, browser, "bob")
        await correspond(chat, ada, bob, folder)
        await ring(chat, ada, bob, folder)
        await talk(chat, ada, bob, folder)
        await import_letters(chat, ada, folder)


async def _opened(chat: Chat, browser: Chromium, name: str) -> Page:
    page = await browser.logged_in(chat, name)
    await page.set_viewport_size(SIZE)
    await page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return page


async def correspond(chat: Chat, ada: Page, bob: Page, folder: Path) -> None:
    """Two people who write to each other."""
    for page in (ada, bob):
        await page.get_by_role("link", name="The first program").first.click()
        await is_live(page)
    await write(ada, "I have sent you the cards.")
    await write(bob, "They are here already!")
    await expect(ada.get_by_text("They are here already!").first).to_be_visible()
    await expect(person(ada, "Bob")).to_contain_text("(here)")
    await ada.screenshot(path=folder / "example-chat.png")


async def ring(chat: Chat, ada: Page, bob: Page, folder: Path) -> None:
    """A notice in somebody else's page."""
    await ada.goto(f"{chat.url}/notices/")
    await ada.get_by_label("Notice", exact=True).fill("Lunch is ready")
    await ada.get_by_label("Bob Noyce").check()
    await ada.get_by_role("button", name="Send").click()
    bell = bob.get_by_role("status", name="Notices")
    await expect(bell).to_contain_text("Lunch is ready")
    await bob.screenshot(path=folder / "example-bell.png", clip=_top(160))


async def talk(chat: Chat, ada: Page, bob: Page, folder: Path) -> None:
    """A room with two people in it, one of whom is typing."""
    for page in (ada, bob):
        await page.goto(f"{chat.url}/room/tea/")
        await is_live(page)
    for page, text in ((bob, "Is there any left?"), (ada, "A whole pot.")):
        field = page.get_by_label("Say something")
        await field.fill(text)
        await field.press("Enter")
        await expect(ada.get_by_text(text)).to_be_visible()
    await bob.get_by_label("Say something").press_sequentially("On my way")
    await expect(typing(ada)).to_have_text("Bob Noyce is typing")
    await ada.bring_to_front()
    await ada.screenshot(path=folder / "example-room.png")


async def import_letters(chat: Chat, ada: Page, folder: Path) -> None:
    """An import that is half done."""
    await ada.bring_to_front()
    await ada.goto(f"{chat.url}/import/")
    await ada.get_by_label("Letters").fill("\n".join(f"Letter {n}" for n in range(1_000)))
    await ada.get_by_role("button", name="Import").click()
    await ada.wait_for_function(
        "document.querySelector('live-progress').value?.current > 300"
    )
    await ada.screenshot(path=folder / "example-import.png")


def _top(height: int) -> dict[str, int]:
    return {"x": 0, "y": 0, "width": SIZE["width"], "height": height}


def main(folder: Path = STATIC) -> None:
    with tempfile.TemporaryDirectory() as name, RedisServer() as redis:
        home = Path(name)
        with Chat(home, redis.url) as chat, chat.worker():
            asyncio.run(take(chat, folder, home))
    for picture in sorted(folder.glob("example-*.png")):
        print(f"{picture} {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
