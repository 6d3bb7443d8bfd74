"""`{% socket_url %}`: where a page's sockets are."""

from __future__ import annotations

import pytest
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory

from redis_pubsub.contrib.websockets import get_application
from tests.urls import urlpatterns as others

PAGE = '{% load redis_pubsub %}{% socket_url "/room/1/?a=b&c=d" %}'


def url(tag: str = '"/room/1/"', request=None, **extra: str) -> str:
    template = Template("{% load redis_pubsub %}{% socket_url " + tag + " %}")
    request = request or RequestFactory().get("/", **extra)
    return template.render(Context({"request": request}))


def test_the_url_is_the_pages_host_with_prefix_and_slash(settings):
    """W-15: as the handler's route is mounted; a query stays, escaped for HTML."""
    settings.REDIS_PUBSUB = {"websocket_url_prefix": "ws"}

    assert url() == "ws://testserver/ws/room/1/"
    assert url('"room/1?a=b&c=d"') == "ws://testserver/ws/room/1/?a=b&amp;c=d"
    assert url('"/room/1/" host="live.example.com"') == "ws://live.example.com/ws/room/1/"
    with pytest.raises(TemplateSyntaxError, match="request"):
        Template(PAGE).render(Context())


def test_a_secure_page_has_secure_sockets(settings):
    """W-15: by HTTPS, and by Django's own header for proxies."""
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    assert (
        url(HTTP_X_FORWARDED_PROTO="https", HTTP_HOST="localhost")
        == "wss://localhost/room/1/"
    )
    assert url(HTTP_X_FORWARDED_PROTO="http") == "ws://testserver/room/1/"


def room(request):
    from django.http import HttpResponse

    return HttpResponse(Template(PAGE).render(Context({"request": request})))


def _patterns():
    from django.urls import path

    return [path("room-page", room), *others]


urlpatterns = _patterns()


@pytest.mark.parametrize(
    ("trusted", "expected"), [(["127.0.0.1"], "wss://shop.example"), ([], "ws://127.0.0.1")]
)
async def test_a_page_behind_a_tls_proxy_has_secure_sockets(
    serve, settings, site, trusted, expected
):
    """W-15: a trusted proxy's headers say how it was reached; a stranger's do not."""
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["*"]
    settings.USE_X_FORWARDED_HOST = True
    settings.REDIS_PUBSUB = site | {"trusted_proxies": trusted}
    served = await serve(app=get_application(handlers=[]))

    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"}
    page = await served.http.get(served.url + "/room-page", headers=headers)

    text = await page.text()
    assert text.startswith(expected) and text.endswith("/room/1/?a=b&amp;c=d")
