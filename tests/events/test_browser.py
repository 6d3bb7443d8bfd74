"""The event socket's class in a real Chromium, against a served site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

from redis_pubsub.contrib.events import EventConnection, EventSocket
from redis_pubsub.contrib.websockets import get_application
from tests.example.chromium import Chromium, chromium, expect

PAGE = """{% load redis_pubsub static %}<!doctype html>
<output id="state"></output><output id="said"></output><output id="errors"></output>
SCRIPT"""
SETUP = """
    const socket = new EventSocket("{% socket_url "/room/a/" %}", { minDelayMs: 50 });
    const show = (id, text) => (document.getElementById(id).textContent += text + " ");
    window.socket = socket;
    socket.onState((state) => show("state", state));
    socket.on("open", () => socket.emit("say", { text: "hello" }));
    socket.on("said", ({ text }) => show("said", text));
    socket.on("error", ({ code, event }) => show("errors", code + event));
"""
MODULE = f"""<script type="module">
    import {{ EventSocket }} from "{{% static 'redis_pubsub/events.js' %}}";{SETUP}
    </script>"""
CLASSIC = f"""<script src="{{% static 'redis_pubsub/events.classic.js' %}}"></script>
    <script>const {{ EventSocket }} = redisPubSub;{SETUP}</script>"""


def page(script: str) -> Any:
    template = PAGE.replace("SCRIPT", script)
    return lambda request: HttpResponse(
        Template(template).render(Context({"request": request}))
    )


urlpatterns = [path("module", page(MODULE)), path("classic", page(CLASSIC))]


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    async with chromium(tmp_path) as browser:
        yield browser


@pytest.mark.parametrize("form", ["module", "classic"])
async def test_a_page_speaks_with_an_event_socket(
    serve: Any, settings: Any, until: Any, browser: Chromium, form: str
) -> None:
    """T-13, W-12: events both ways, an error, a lost connection that comes back, an
    explicit close that stays; as a module and as a classic script."""
    settings.ROOT_URLCONF = __name__
    room = EventSocket("/room/{name}/")
    connections: list[EventConnection] = []
    codes: list[int] = []
    room.on_open(connections.append)
    room.on_close(lambda connection, code: codes.append(code))

    @room.on("say")
    async def say(connection: EventConnection, data: Any) -> None:
        await room.emit("said", data)

    served = await serve(app=get_application(handlers=[room], static_files=True))
    tab = await browser.page()
    await tab.goto(f"{served.url}/{form}")
    await expect(tab.locator("#said")).to_have_text("hello ")
    await room.emit("said", {"text": "from-elsewhere"}, params={"name": "a"})
    await expect(tab.locator("#said")).to_have_text("hello from-elsewhere ")
    await tab.evaluate("socket.emit('nothing')")
    await expect(tab.locator("#errors")).to_have_text("104nothing ")

    connections[0].ws.abort()
    await expect(tab.locator("#said")).to_have_text("hello from-elsewhere hello ")
    await expect(tab.locator("#state")).to_have_text("open waiting connecting open ")
    await tab.evaluate("socket.close(4000, 'bye')")
    await expect(tab.locator("#state")).to_contain_text("closed")
    assert await tab.evaluate("socket.state") == "closed"
    await until(lambda: codes == [1006, 4000])
