"""docs/howto/authentication.rst, "One-use tickets": its pages, over real connections."""

from __future__ import annotations

import asyncio
import re

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub import get_application
from redis_pubsub.contrib.websockets import websocket

pytestmark = pytest.mark.django_db(transaction=True)


@websocket("/messages", authenticate=True)
async def messages(ws, params, user):
    await ws.send_str(user.username)


async def test_a_page_brings_its_ticket_along(
    serve, settings, site, user, client, tmp_path
):
    """The template has a ticket of the page's own origin; a fetched one works too."""
    settings.ROOT_URLCONF = "docs.snippets.tickets"
    (tmp_path / "board.html").write_text("<body data-ticket={{ ticket }}>")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    await sync_to_async(client.force_login)(user)
    cookie = "; ".join(f"{name}={each.value}" for name, each in client.cookies.items())
    app = await asyncio.to_thread(get_application, handlers=[messages])
    served = await serve(app=app)

    page = await served.http.get(f"{served.url}/board/", headers={"Cookie": cookie})
    ticket = re.search(r"data-ticket=(\S+)>", await page.text())[1]
    posted = await served.http.post(
        f"{served.url}/pubsub/ticket/",
        headers={
            "Cookie": f"{cookie}; csrftoken={'c' * 32}",
            "X-CSRFToken": "c" * 32,
            "Origin": served.url,
        },
    )
    fetched = (await posted.json())["ticket"]

    for path, options in (
        (f"/messages/?ticket={ticket}", {}),
        ("/messages/", {"protocols": ("bearer", fetched)}),
    ):
        ws = await served.connect(path, origin=served.url, **options)
        assert await ws.receive_str() == "ada"
