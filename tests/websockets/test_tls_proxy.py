"""Behind a proxy that ends TLS, as production has it: pages by https, sockets by wss."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import re
import ssl

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.http import HttpResponse
from django.template import Context, Template
from django.urls import path

from redis_pubsub.contrib.websockets import get_application, websocket

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.may_block(reason="reads the certificate it has just written"),
]


def page(request):
    template = Template("{% load redis_pubsub %}{% live_script %}")
    return HttpResponse(template.render(Context({"request": request})))


urlpatterns = [path("page", page)]


@websocket("/whoami/", authenticate=True)
async def whoami(ws, params, user):
    await ws.send_str(user.get_username())


@pytest.fixture
def certificate(tmp_path):
    """Of 127.0.0.1, by itself: a file with key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(pem, form, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return file


@contextlib.asynccontextmanager
async def tls_proxy(certificate, port, header):
    """Ends TLS and says so in a header of each connection's first request; its URL."""

    async def serve(reader, writer):
        back, on = await asyncio.open_connection("127.0.0.1", port)
        first = await reader.readline()
        on.write(first + header)
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(reader, on))
            group.create_task(copy(back, writer))

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_page_behind_a_tls_proxy_has_its_sockets(
    serve, site, certificate, client, user, says_so
):
    """W-15: the page's config names a path, so that its socket is on the page's own host,
    by wss; its Origin is ours because a trusted proxy says how the page was reached, and
    a foreign one where nobody says so."""
    served = await serve(app=get_application(handlers=[whoami]))
    await sync_to_async(client.force_login)(user)
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    trust = ssl.create_default_context(cafile=str(certificate))
    header = b"X-Forwarded-Proto: https\r\n" if says_so else b""

    async with (
        tls_proxy(certificate, served.port, header) as host,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as http,
    ):
        async with http.get(f"https://{host}/page", headers={"Connection": "close"}) as got:
            text = await got.text()
        config = json.loads(re.search(r"data-live-config>(.*?)</script>", text)[1])
        assert config["path"].startswith("/")
        headers = {"Origin": f"https://{host}", "Cookie": cookie}

        if not says_so:
            for at in ("/whoami/", f"{config['path']}/websocket"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await http.ws_connect(f"wss://{host}{at}", headers=headers)
                assert refused.value.status == 403
            return

        ws = await http.ws_connect(
            f"wss://{host}{config['path']}/websocket", headers=headers
        )
        await ws.send_str('{"id":1,"connect":{}}')
        reply = json.loads(await ws.receive_str(timeout=10))
        assert f"user:{user.pk}" in reply["connect"]["subs"]
        await ws.close()
        ws = await http.ws_connect(f"wss://{host}/whoami/", headers=headers)
        assert await ws.receive_str(timeout=10) == user.get_username()
        await ws.close()
