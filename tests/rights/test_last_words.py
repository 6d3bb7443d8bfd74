"""What a client says once it was told to go: nobody hears it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiohttp import WSMsgType

from redis_pubsub.contrib.events import EventSocket
from redis_pubsub.contrib.websockets import websocket
from redis_pubsub.publishing.control import adisconnect
from redis_pubsub.web.connections import Connections
from redis_pubsub.web.handshake import Gatekeeper
from tests.live.raw import Raw

pytestmark = pytest.mark.django_db(transaction=True)
HEARD = []
room = EventSocket("/acts", authenticate=True)


@websocket("/told", authenticate=True)
async def told(ws, params, user):
    HEARD.append("ready")
    await ws.send_str("ready")
    while (message := await ws.receive()).type is WSMsgType.TEXT:
        HEARD.append(message.data)


@room.on_open
async def opened(socket):
    HEARD.append("ready")
    await socket.send("ready")


@room.on()
async def act(socket):
    HEARD.append("act")


@pytest.fixture
async def served(serve, settings, site):
    HEARD.clear()
    settings.REDIS_PUBSUB = site
    return await serve(told, room)


@pytest.mark.parametrize("path", ["/told", "/acts"])
async def test_who_was_told_to_go_is_not_heard_any_more(served, log_in, user, until, path):
    """A client that does not answer the close frame goes on to send for as long as that is
    waited for: its handler obeys nothing of it."""
    browser = await log_in(user)
    ws = await served.connect(path, headers=browser.headers(served.url))
    await ws.receive_str()
    open_sockets = served.engine.part(Connections)
    (connection,) = open_sockets.of_user(str(user.pk))

    await adisconnect(user)
    await until(lambda: not connection.outlet.is_open)
    await ws.send_str('{"event": "act"}')
    await ws.close()
    await until(lambda: connection not in open_sockets)

    assert HEARD == ["ready"]


@pytest.mark.parametrize("path", ["/told", "/acts"])
async def test_no_handler_begins_for_who_was_sent_away_meanwhile(
    served, log_in, user, until, monkeypatch, path
):
    """Between the look at who it is and the handler."""
    admit = Gatekeeper.admit

    async def slowly(self, request, authenticate):
        standing = await admit(self, request, authenticate)
        recent = self._engine.part(Connections)._recent
        await adisconnect(user)
        await until(lambda: recent)
        return standing

    monkeypatch.setattr(Gatekeeper, "admit", slowly)
    browser = await log_in(user)
    ws = await served.connect(path, headers=browser.headers(served.url))
    assert (await ws.receive()).data == 3503
    await ws.close()
    await until(lambda: not len(served.engine.part(Connections)))

    assert HEARD == []


@pytest.mark.parametrize("path", ["/told", "/acts"])
async def test_nothing_follows_the_close_frame(served, log_in, user, path):
    """A browser takes whatever does for a broken connection, and never sees the code: it
    would come back where it was told not to."""
    browser = await log_in(user)
    client = await Raw.open(SimpleNamespace(served=served))
    await client.upgrade(path, **browser.headers(served.url))
    assert await client.frame() == (0x81, b"ready")

    await adisconnect(user)
    opcode, payload = await client.frame()
    client.send_frame(b"", 0x89)
    client.send_frame(payload[:2], 0x88)

    assert (opcode, payload[:2]) == (0x88, (3503).to_bytes(2, "big"))
    assert await client.rest() == b""
