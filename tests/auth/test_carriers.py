"""How a token reaches the server, and what never comes back."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.django_db(transaction=True)


async def handshake(served, path, *headers):
    """Status line and headers of a raw handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    lines = [
        f"GET {path} HTTP/1.1".encode(),
        f"Host: 127.0.0.1:{served.port}".encode(),
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *headers,
    ]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()
    return int(head.split()[1]), head.decode("latin-1").lower()


PATHS = ["/whoami", "/connection/websocket"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "line",
    [
        "Sec-WebSocket-Protocol: bearer, {}",
        "Sec-WebSocket-Protocol: Bearer,{}",
        "Sec-WebSocket-Protocol: bearer\r\nSec-WebSocket-Protocol: {}",
    ],
)
async def test_the_answer_names_our_protocol_and_never_the_token(served, token, path, line):
    """Row 5, over a raw socket: 101, ``bearer``, nothing else of what was offered."""
    status, head = await handshake(served, path, line.format(token).encode())

    assert status == 101 and token not in head
    chosen = [each for each in head.splitlines() if "sec-websocket-protocol" in each]
    # A name of another spelling is not repeated either.
    assert chosen in ([], ["sec-websocket-protocol: bearer"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "value",
    [
        "tökén".encode(),
        b"\xff\xfe",
        b"a b",
        b"a/b",
        b"a=b",
        b"a\x7fb",
        b"x" * 8_160,
        b"x" * 8_193,
        b"x" * 20_000,
    ],
)
async def test_what_is_no_subprotocol_is_a_400(served, path, value):
    """Row 5: non-ASCII, or 8 KB: the handshake is refused, and nothing fails."""
    status, head = await handshake(
        served, path, b"Sec-WebSocket-Protocol: bearer, " + value
    )

    if value == b"x" * 8_160:
        # A bad token of a possible length is judged where tokens are.
        assert status == (403 if path == "/whoami" else 101)
    else:
        assert status == 400
    assert "traceback" not in head and "x" * 100 not in head


@pytest.mark.parametrize(
    "value",
    [b"Bearer t\xff\xfe", b"Bearer \xc3\xbc", b"Bearer a\tb", b"Basic YTpi", b"Bearer"],
)
async def test_other_authorization_headers_let_nobody_in(served, value, caplog):
    """And are no error of ours."""
    status, _ = await handshake(served, "/whoami", b"Authorization: " + value)

    assert status == 403
    assert "Traceback" not in caplog.text
