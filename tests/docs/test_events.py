"""docs/howto/events.rst, executed, and the codes of event sockets."""

from __future__ import annotations

import re

import aiohttp
import pytest
from asgiref.sync import sync_to_async

from redis_pubsub import codes
from redis_pubsub.testing import pubsub_site
from tests.processes import ROOT

CODES = (ROOT / "docs/reference/codes.rst").read_text()


@pytest.fixture
async def site(letters):
    """The page's sockets, served."""
    events = letters("events")
    handlers = [getattr(events, name) for name in events.handlerconf]
    async with pubsub_site(*handlers) as site:
        site.events = events
        yield site


def refused(code, event, reason=None):
    data = {"code": code.code, "reason": reason or code.reason, "event": event}
    return "error", data


async def test_the_room_of_the_page_is_as_it_says(site, user, other_user):
    """Who joins, what is said, who may not, who leaves; and an emit from outside."""
    room = "/room/ada/"
    ada = await site.connect_events(room, user=user)
    bob = await site.connect_events(room, user=other_user)
    assert await ada.receive() == ("joined", {"by": "bob"})

    await bob.emit("say", {"text": "hello"})
    assert await ada.receive() == await bob.receive()
    await bob.emit("clear")
    denied = codes.EventErrors.PERMISSION_DENIED
    assert await bob.receive() == refused(denied, "clear")
    await bob.emit("rename", {"text": "bob's"})
    assert await bob.receive() == refused(denied, "rename")
    await ada.emit("rename", {"text": ""})
    assert (await ada.receive())[1]["code"] == 400

    await sync_to_async(site.events.close_for_tonight)(user)
    assert await ada.receive() == ("closing", {"at": "22:00"})
    assert await ada.receive() == ("bill", {"total": 12})
    assert await bob.receive() == ("closing", {"at": "22:00"})
    await bob.close()
    assert await ada.receive() == ("left", {"by": "bob"})


async def test_the_other_sockets_of_the_page_are_as_it_says(site):
    """The class, the module, the state."""
    table = await site.connect_events("/table/7/")
    await table.emit("move", "e4")
    assert await table.receive() == ("moved", {"move": "e4", "count": 1})
    await table.emit("leave")
    assert await table.receive_close() == 4000
    assert await (await site.connect_events("/table/101/")).receive_close() == 4404
    with pytest.raises(aiohttp.WSServerHandshakeError) as denied:
        await site.connect_events("/table/x/")
    assert denied.value.status == 403

    lobby = await site.connect_events("/lobby/")
    await lobby.emit("chat.say", {"text": "hi"})
    assert await lobby.receive() == ("chat.said", {"text": "hi"})

    game = await site.connect_events("/game/", protocols=["game.v1"])
    for points in (1, 2):
        await game.emit("hit")
        assert await game.receive() == ("score", {"points": points})
    await game.ws.send_bytes(b"\x01")
    assert await game.ws.receive_bytes() == b"\x01"
    assert game.ws.protocol == "game.v1"


def test_the_page_has_the_codes_of_events():
    """Numbers and texts, in any order; none missing, none too many."""
    section = CODES.partition("\nEvents\n------\n")[2]
    rows = re.findall(r"^    \* - (\d+)\n      - (.+)\n      - \S", section, re.M)
    known = codes.table(codes.EventErrors).values()

    assert sorted(rows) == sorted((str(code.code), code.reason) for code in known)
