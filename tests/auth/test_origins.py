"""Which pages may open what: every rule against every address, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.auth.tickets import aissue

pytestmark = pytest.mark.django_db(transaction=True)

UPGRADE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
]
CONNECT = '{"id":1,"connect":{}}'
POST = '{"session":"x","node":"y","data":"z"}'
ENDPOINTS = {
    # Name: method, path, further headers, body, statuses of who is let through.
    "a handler": ("GET", "/whoami", UPGRADE, "", (101,)),
    "live": ("GET", "/connection/websocket", UPGRADE, "", (101,)),
    "sse": ("GET", "/connection/sse?cf_connect={}", [], "", (200,)),
    "http_stream": ("POST", "/connection/http_stream", [], CONNECT, (200,)),
    # The session is not one of ours: the rule about origins comes before that.
    "emulation": ("POST", "/emulation", [], POST, (403,)),
    "preflight": ("OPTIONS", "/emulation", [], "", (204,)),
    "the ticket view": ("POST", "/pubsub/ticket/", [], "", (200,)),
    "the rest view": ("POST", "/api/ticket/", [], "", (200,)),
}
NOT_ALLOWED = (
    b"this origin is not allowed",
    b"a session needs an origin header",
    # Django's own, which comes first in its views.
    b"csrf",
)
OWN, HOST = "{own}", "{host}"
MATRIX = [
    # Row 2: what a page sends, and whether a cookie lets it in.
    ("our own", [OWN], True),
    ("listed", ["https://app.example"], True),
    ("listed subdomain", ["https://a.wild.example"], True),
    ("listed, upper case", ["https://APP.example"], True),
    ("absent", [], False),
    ("empty", [""], False),
    ("null", ["null"], False),
    ("a file", ["file://"], False),
    ("ours as a prefix", ["http://{host}.evil.example"], False),
    ("listed as a prefix", ["https://app.example.evil.example"], False),
    ("a look-alike of a subdomain", ["https://evilwild.example"], False),
    ("the domain of listed subdomains", ["https://wild.example"], False),
    ("ours as a user", ["http://{host}@evil.example"], False),
    ("ours behind a sign", ["http://evil.example#{host}"], False),
    ("another port", ["http://127.0.0.1:1"], False),
    ("another scheme", ["https://{host}"], False),
    ("a final slash", ["{own}/"], False),
    ("a trailing dot", ["https://app.example."], False),
    ("IPv6", ["http://[::1]"], False),
    ("mapped IPv6", ["http://[::ffff:127.0.0.1]"], False),
    ("a homograph", ["https://аpp.example"], False),
    ("two, ours first", [OWN, "https://evil.example"], False),
    ("two, ours last", ["https://evil.example", OWN], False),
    ("two in one line", ["{own}, https://evil.example"], False),
    ("foreign", ["https://evil.example"], False),
]


@pytest.fixture
async def served(serve_site, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://app.example", "https://*.wild.example"]
    return await serve_site(limits={"auth_failures": 10_000})


async def ask(served, endpoint, *headers):
    """The status, and the first of the body, in lower case."""
    method, path, more, body, _ = ENDPOINTS[endpoint]
    path = path.format(CONNECT.replace('"', "%22"))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{served.port}", *more]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, *headers, "", ""]).encode()
    writer.write(head + body.encode())
    async with asyncio.timeout(20):
        status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        said = await reader.read(4096) if status in (400, 403) else b""
    writer.close()
    return status, said.lower()


def is_refused_for_its_origin(status, said):
    return status == 403 and any(text in said for text in NOT_ALLOWED)


def spelt(served, origins):
    host = f"127.0.0.1:{served.port}"
    return [f"Origin: {origin.format(own=served.url, host=host)}" for origin in origins]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_cookie_speaks_for_pages_that_are_ours_or_listed(served, browser, endpoint):
    """T-6, row 2: with the cookie of a logged-in browser: whoever it is, another page gets
    nothing, on any address; and the CSRF token does not help."""
    mine = [f"{name}: {value}" for name, value in browser.items()]
    wrong = []
    for name, origins, is_ours in MATRIX:
        status, said = await ask(served, endpoint, *mine, *spelt(served, origins))
        is_in = status in ENDPOINTS[endpoint][-1] and not is_refused_for_its_origin(
            status, said
        )
        is_out = is_refused_for_its_origin(status, said) or status == 400
        # Without an origin Django's CSRF token alone decides over http, as it always has.
        if name == "absent" and "view" in endpoint:
            is_ours = True
        # It compares letter by letter; browsers write small ones.
        if name == "listed, upper case" and "view" in endpoint:
            is_ours = False
        if (is_in, is_out) != (is_ours, not is_ours):
            wrong.append((name, status, said[:80]))

    assert wrong == []


# Django's sessions are the only credentials of the plain view.
@pytest.mark.parametrize(
    "endpoint", [name for name in ENDPOINTS if name != "the ticket view"]
)
async def test_a_page_of_another_site_gets_nothing_with_a_token_either(
    served, token, endpoint
):
    """Who has a token needs no origin, as clients that are no browsers; one that is sent
    has to be ours."""
    mine = f"Authorization: Token {token}"
    wrong = []
    for name, origins, is_ours in MATRIX:
        status, said = await ask(served, endpoint, mine, *spelt(served, origins))
        is_out = is_refused_for_its_origin(status, said) or status == 400
        if is_out == (is_ours or name == "absent"):
            wrong.append((name, status, said[:80]))

    assert wrong == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_what_an_untrusted_peer_forwards_does_not_make_it_ours(
    serve_site, browser, endpoint
):
    """Row 3: ``X-Forwarded-Host`` that agrees with a foreign origin."""
    served = await serve_site(trusted_proxies=["10.0.0.1"])
    mine = [f"{name}: {value}" for name, value in browser.items()]

    status, said = await ask(
        served,
        endpoint,
        *mine,
        "Origin: https://testserver",
        "X-Forwarded-Host: testserver",
        "X-Forwarded-Proto: https",
    )

    assert is_refused_for_its_origin(status, said)


@pytest.mark.parametrize("endpoint", ["a handler", "live", "sse", "http_stream"])
async def test_what_a_trusted_proxy_forwards_is_who_we_are(serve_site, browser, endpoint):
    """The other side of row 3; and a repeated header is one list, its last word counts."""
    served = await serve_site()
    mine = [f"{name}: {value}" for name, value in browser.items()]
    forwarded = [
        "Origin: https://testserver",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Host: testserver",
        "X-Forwarded-Proto: https",
    ]

    status, _ = await ask(served, endpoint, *mine, *forwarded)

    assert status in ENDPOINTS[endpoint][-1]


async def test_a_foreign_page_costs_no_query(served, browser, queries):
    """Row 1: 403 before the upgrade, without the database."""
    mine = f"Cookie: {browser['Cookie']}"
    queries.clear()

    for endpoint in ("a handler", "live", "sse", "http_stream", "emulation"):
        status, said = await ask(served, endpoint, mine, "Origin: https://evil.example")
        assert is_refused_for_its_origin(status, said)

    assert queries == []


async def test_a_foreign_page_uses_up_no_ticket(served, user):
    """It is refused before anybody looks at what it brings."""
    ticket = await aissue(user)

    status, _ = await ask(
        served,
        "a handler",
        f"Authorization: Bearer {ticket}",
        "Origin: https://evil.example",
    )
    assert status == 403

    ws = await served.connect(f"/whoami?ticket={ticket}")
    assert (await ws.receive_json())["user"] == "ada"
