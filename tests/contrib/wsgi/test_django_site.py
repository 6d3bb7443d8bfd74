"""A Django site behind our handler, and the same behind gunicorn."""

from __future__ import annotations

import asyncio

import pytest

from .client import Reply, ask, get

pytestmark = pytest.mark.asyncio

BOUNDARY = "x" * 20


@pytest.mark.parametrize(
    "path",
    [
        "/small/",
        "/stream/",
        "/file/",
        "/no-reason/",
        "/crash/",
        "/latin-header/",
        "/cookies/",
        "/not-modified/",
        "/small",
        "/%E6%97%A5%E6%9C%AC/caf%C3%A9/",
        "/caf%E9/",
    ],
)
async def test_a_page_is_what_gunicorn_serves(
    django_site: int, django_gunicorn: int, path: str
):
    """Moving a site from gunicorn's worker to ours changes nothing it can see."""
    request = get(path)

    replies = await asyncio.gather(ask(django_site, request), ask(django_gunicorn, request))

    mine, other = map(compared, replies)
    assert mine == other


def compared(reply: Reply) -> tuple:
    own = {"date", "server", "connection", "transfer-encoding", "content-length"}
    headers = sorted(header for header in reply.headers if header[0] not in own)
    body = reply.body
    if reply.one("content-type") == b"application/json":
        body = {k: v for k, v in reply.json.items() if k != "finished"}
    return reply.status, reply.reason.strip(), headers, body


async def test_cookies_in_several_lines_and_in_utf8_are_read(django_site: int):
    """``request.COOKIES`` has each of them."""
    reply = await ask(django_site, get("/", "Cookie: a=1", "Cookie: b=日"))

    assert reply.json["cookies"] == {"a": "1", "b": "日"}


async def test_a_user_agent_of_any_bytes_is_no_crash(django_site: int):
    """A byte that is no UTF-8 reaches ``request.headers``."""
    reply = await ask(django_site, get("/", b"User-Agent: caf\xe9"))

    assert reply.json["user_agent"] == "caf\xe9"


async def test_an_underscore_header_makes_no_request_secure(django_site: int):
    """Only the dashed form of a trusted proxy does."""
    forged = await ask(django_site, get("/", "X_Forwarded_Proto: https"))
    real = await ask(django_site, get("/", "X-Forwarded-Proto: https"))

    assert forged.json["is_secure"] is False
    assert real.json["is_secure"] is True


async def test_a_multipart_upload_becomes_a_temporary_file(django_site: int):
    """Django's own upload handlers see a body as any server gives it."""
    content = b"0123456789" * 100_000
    body = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=a.bin\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body += content + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    ]

    reply = await ask(django_site, get("/upload/", *lines, method="POST") + body)

    assert reply.json == {
        "name": "a.bin",
        "size": len(content),
        "kind": "TemporaryUploadedFile",
    }


async def test_every_response_is_closed_so_that_django_tidies_up(django_site: int):
    """``request_finished`` (and with it ``close_old_connections``) comes once a request."""
    before = (await ask(django_site, get("/count/"))).json["finished"]

    for path in ("/small/", "/stream/", "/file/", "/crash/"):
        await ask(django_site, get(path))
        await ask(django_site, get(path, method="HEAD"))
    after = (await ask(django_site, get("/count/"))).json["finished"]

    # The first count was not finished when it counted; nine more followed it.
    assert after - before == 9


async def test_a_large_file_to_a_slow_reader_leaves_memory_flat(django_site: int):
    """200 MiB of a ``FileResponse``: memory grows by some blocks."""
    before = int((await ask(django_site, get("/peak/"))).body)
    reader, writer = await asyncio.open_connection("127.0.0.1", django_site, limit=4096)
    writer.write(get("/sparse/200/"))

    received = 0
    while block := await reader.read(65_536):
        received += len(block)
    writer.close()
    after = int((await ask(django_site, get("/peak/"))).body)

    assert received > 200 * 1_048_576
    assert after - before < 30_000
