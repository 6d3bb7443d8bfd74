"""What a WSGI application is told about a request; gunicorn is the oracle."""

from __future__ import annotations

import asyncio

import pytest

from . import apps
from .client import Reply, ask, get, parse, talk

pytestmark = pytest.mark.asyncio

# gunicorn tells these differently on purpose, or by the nature of the process.
NOT_COMPARED = {
    "REMOTE_PORT",
    "REQUEST_URI",  # ours alone, as aiohttp-wsgi had it
    "SERVER_PORT",
    "SERVER_SOFTWARE",
    "HTTP_CONNECTION",  # ours hides what concerns the connection
    "HTTP_TRANSFER_ENCODING",
    "wsgi.multithread",
}

TARGETS = [
    "/",
    "/plain?a=1&b=%20c",
    "/%E6%97%A5%E6%9C%AC",
    "/caf%C3%A9/",
    "/caf%E9/",
    "/a%2Fb",
    "/a%00b",
    "/a;b=c",
    "/a/../b/./c",
    "/double//slash",
    "/trailing?",
    "/q?x=%E6%97%A5&y=a+b",
    "/%",
    "/%zz",
    "/question%3Fmark?real",
]

HEADERS = [
    ["User-Agent: caf\u00e9"],
    [b"User-Agent: caf\xe9"],
    [b"Cookie: a=\xe6\x97\xa5"],
    ["Accept: a", "Accept: b"],
    ["X-Empty:"],
    ["X-Forwarded_For: 6.6.6.6", "X_Forwarded_Proto: https", "Content_Length: 5"],
    ["X-Spaces:    a   b   "],
    ["Content-Type: text/plain; charset=utf-8"],
    ["Authorization: Basic YTpi"],
]


@pytest.mark.parametrize("target", TARGETS)
async def test_paths_and_queries_arrive_as_gunicorn_passes_them(
    ours: int, gunicorn: int, target: str
):
    """PEP 3333: paths are unquoted bytes spelled as latin-1, queries stay raw."""
    request = get(target)

    mine, other = await ask(ours, request), await ask(gunicorn, request)

    assert compared(mine) == compared(other)


@pytest.mark.parametrize("lines", HEADERS, ids=str)
async def test_headers_arrive_as_gunicorn_passes_them(ours: int, gunicorn: int, lines):
    """Every byte of a value survives; names with an underscore never do."""
    request = get("/", *lines)

    mine, other = await ask(ours, request), await ask(gunicorn, request)

    assert compared(mine) == compared(other)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"PROPFIND /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
async def test_lengths_methods_and_versions_arrive_as_gunicorn_passes_them(
    ours: int, gunicorn: int, request_bytes: bytes
):
    """``CONTENT_LENGTH`` is there when the client gave one, and only then."""
    mine, other = await ask(ours, request_bytes), await ask(gunicorn, request_bytes)

    assert compared(mine) == compared(other)


def compared(reply: Reply) -> dict:
    assert reply.status == 200, reply
    return {k: v for k, v in reply.json.items() if k not in NOT_COMPARED}


async def test_a_chunked_body_arrives_with_its_length(ours: int):
    """The application sees one body with a length, and no transfer encoding."""
    request = get("/", "Transfer-Encoding: chunked", method="POST") + (
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    environ = (await ask(ours, request)).json

    assert environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in environ


async def test_cookie_lines_become_one_cookie_header(ours: int):
    """Several lines are joined with a semicolon, as RFC 9110 asks for cookies."""
    reply = await ask(ours, get("/", "Cookie: a=1", "Cookie: b=2"))

    assert reply.json["HTTP_COOKIE"] == "a=1; b=2"


async def test_a_proxy_header_never_becomes_http_proxy(ours: int):
    """``Proxy: evil`` must not tell HTTP clients in the application where to go."""
    reply = await ask(ours, get("/", "Proxy: http://evil", "Proxy-Authorization: x"))

    assert not [name for name in reply.json if "PROXY" in name]


async def test_a_get_has_no_content_type_and_no_content_length(ours: int):
    """What the client did not send is absent, not empty."""
    environ = (await ask(ours, get("/"))).json

    assert "CONTENT_TYPE" not in environ
    assert "CONTENT_LENGTH" not in environ
    assert environ["wsgi.input_terminated"] is True


async def test_multiprocess_is_what_the_options_say(serve):
    """``wsgi.multiprocess`` is true under several workers."""
    server = await serve(apps.echo, multiprocess=True)

    reply = await ask(server.port, get("/"))

    assert reply.json["wsgi.multiprocess"] is True
    assert reply.json["wsgi.multithread"] is True


async def test_a_mounted_application_gets_its_script_name(serve):
    """``script_name`` is taken off the path, and nothing outside it is served."""
    server = await serve(apps.echo, script_name="/日")

    inside = await ask(server.port, get("/%E6%97%A5/caf%C3%A9"))
    top = await ask(server.port, get("/%E6%97%A5"))
    outside = await ask(server.port, get("/%E6%97%A5a/"))

    name = "/日".encode().decode("latin-1")
    assert inside.json["SCRIPT_NAME"] == name
    assert inside.json["PATH_INFO"] == "/caf\xc3\xa9"
    assert (top.json["SCRIPT_NAME"], top.json["PATH_INFO"]) == (name, "")
    assert outside.status == 404


async def test_an_absolute_target_must_name_the_same_host(ours: int):
    """Two hosts in one request are refused, whichever a proxy looked at."""
    same = await ask(ours, get("http://example.org/a%20b?c"))
    other = await ask(ours, get("http://evil.example/a"))

    assert same.json["PATH_INFO"] == "/a b"
    assert same.json["QUERY_STRING"] == "c"
    assert other.status == 400


async def test_two_content_types_are_refused(ours: int):
    """A body is not parsed in one way here and in another way elsewhere."""
    request = get("/", "Content-Type: text/plain", "Content-Type: text/html")

    reply = await ask(ours, request)

    assert reply.status == 400


async def test_forwarded_headers_of_a_trusted_peer_count(serve):
    """Scheme and address come from the proxy; the client's own claims are cut off."""
    server = await serve(apps.echo)

    reply = await ask(
        server.port,
        get(
            "/",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-For: 203.0.113.7, 127.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.example",
        ),
    )

    environ = reply.json
    assert environ["REMOTE_ADDR"] == "203.0.113.7"
    assert "REMOTE_PORT" not in environ
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.7, 127.0.0.1"
    assert environ["HTTP_X_FORWARDED_HOST"] == "shop.example"


async def test_forwarded_headers_of_a_stranger_do_not_exist(serve):
    """Without trust, no forwarding header reaches the application at all."""
    server = await serve(apps.echo, trusted_proxies=("10.0.0.0/8",))

    reply = await ask(
        server.port,
        get(
            "/",
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Port: 1",
            "X-Forwarded-Anything: 1",
            "Forwarded: for=6.6.6.6",
            "X-Real-IP: 6.6.6.6",
        ),
    )

    environ = reply.json
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["wsgi.url_scheme"] == "http"
    assert not [name for name in environ if "FORWARDED" in name or "REAL" in name]


async def test_a_unix_socket_has_the_address_its_proxy_tells(serve, tmp_path):
    """No ``REMOTE_ADDR="unix"``: empty, or the forwarded one; ports are numbers."""
    path = str(tmp_path / "s")
    await serve(apps.echo, unix_path=path)

    async def ask_unix(*lines: str) -> dict:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(get("/", *lines))
        raw = await reader.read()
        writer.close()
        return parse(raw).json

    direct = await ask_unix()
    forwarded = await ask_unix("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")

    assert direct["REMOTE_ADDR"] == ""
    assert (direct["SERVER_NAME"], direct["SERVER_PORT"]) == ("example.org", "80")
    assert forwarded["REMOTE_ADDR"] == "203.0.113.7"
    assert forwarded["SERVER_PORT"] == "443"


UPGRADE = "Host: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("TRACE / HTTP/1.1\r\nHost: example.org\r\nUpgrade: none\r\n\r\n", b"405"),
        (f"GET / HTTP/1.1\r\n{UPGRADE}\r\n", b"400"),
        (f"GET / HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 777\r\n\r\n", b"400"),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
    ],
    ids=["trace", "websocket", "wrong websocket", "chunks in HTTP/1.0"],
)
async def test_what_is_not_for_django_is_refused_and_the_connection_closed(
    ours: int, request_text: str, status: bytes
):
    """Refused before the application, and no second request on that connection."""
    raw = await talk(ours, request_text.encode() + get("/second"))

    assert raw.split(b" ", 2)[1] == status
    assert raw.count(b"\r\nServer:") == 1


async def test_an_http2_offer_is_ignored(ours: int):
    """curl offers ``Upgrade: h2c``; that is no reason to refuse."""
    reply = await ask(ours, get("/list", "Upgrade: h2c"))

    assert reply.status == 200
