"""Handshakes that are none, and what two sides agree on in one that is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from redis_pubsub.contrib.websockets import websocket
from tests.live.raw import Raw


@websocket("/echo/", protocols=["v2.notes", "v1.notes"])
async def echo(ws, params, **kwargs):
    await ws.send_str(str(ws.ws_protocol))
    async for message in ws:
        if message.type is message.type.BINARY:
            await ws.send_bytes(message.data[::-1])
        else:
            await ws.close(code=4001, message="house rules")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("v1.notes", "v2.notes"), "v1.notes"),
        (("v9.notes", "v2.notes"), "v2.notes"),
        (("v9.notes",), None),
        ((), None),
    ],
)
async def test_a_subprotocol_is_chosen_from_the_handlers_list(serve, offered, chosen):
    """W-14: the client's first that the handler speaks; never one that it does not."""
    served = await serve(echo)
    ws = await served.connect("/echo/", protocols=offered)

    assert ws.protocol == chosen
    assert await ws.receive_str() == str(chosen)
    await ws.close()


async def test_bytes_go_both_ways_and_a_close_has_its_code(serve):
    """W-14: binary frames as they are; 4001 and its reason reach the client."""
    served = await serve(echo)
    ws = await served.connect("/echo/")
    await ws.receive_str()

    await ws.send_bytes(b"\x00\xff\xfe")
    assert await ws.receive_bytes() == b"\xfe\xff\x00"
    await ws.send_str("bye")
    message = await ws.receive()

    assert (message.data, message.extra) == (4001, "house rules")


WHOLE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Version": "12"},
        {"Connection": "close"},
        {"Connection": "x-upgrade"},
    ],
    ids=["no key", "bad key", "version", "connection", "another word"],
)
@pytest.mark.parametrize("path", ["/echo/", "/connection/websocket"])
async def test_half_a_handshake_is_400(serve, caplog, path, changes):
    """W-14: a readable body, and no traceback."""
    served = await serve(echo)
    client = await Raw.open(SimpleNamespace(served=served))
    headers = {k: v for k, v in {**WHOLE, **changes}.items() if v is not None}

    await client.request("GET", path, **headers)

    # RFC 6455, section 4.4: 426 says which version is spoken.
    assert client.status == (426 if client.headers.get("sec-websocket-version") else 400)
    assert int(client.headers["content-length"]) > 0
    assert "Traceback" not in caplog.text
    client.close()


@pytest.mark.parametrize("path", ["/echo/", "/connection/websocket"])
async def test_a_plain_get_is_426(serve, path):
    """W-14: with the protocol it should be upgraded to, and a sentence that says so."""
    served = await serve(echo)
    async with served.http.get(served.url + path) as response:
        assert response.status == 426
        assert response.headers["Upgrade"].lower() == "websocket"
        assert "WebSocket" in await response.text()
