"""Pages that show a state and follow it: nothing falls between the two."""

from __future__ import annotations

import json
import re
import threading

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.http import HttpResponse
from django.template import Context, Template, TemplateSyntaxError
from django.test import Client, RequestFactory
from django.urls import path
from django.views import View

from redis_pubsub import publish
from redis_pubsub.models import Channel
from redis_pubsub.views import LivePageMixin, live_page

from .shop.models import Message
from .urls import urlpatterns as others

pytestmark = pytest.mark.django_db(transaction=True)

RULES = {"room:*": {"subscribe": "anyone"}}
LIVE = {"anonymous": True}


def positions(html):
    """What the browser module finds in a page: the lowest offset of each channel."""
    found = {}
    for text in re.findall(r"<script[^>]*data-live-position>(.*?)</script>", html, re.S):
        found |= json.loads(text)
    return found


def elsewhere(function):
    """Run in another thread, as another request would."""

    thread = threading.Thread(target=then_closed, args=[function])
    thread.start()
    thread.join()


def then_closed(function, *args):
    """Call, and leave no connection behind in the thread."""
    try:
        return function(*args)
    finally:
        connections.close_all()


def say(body):
    """Commit a message of the room, and publish it."""
    channel, _ = Channel.objects.get_or_create(name="room:1")
    Message.objects.create(channel=channel, body=body)


def render(text, request=None, **values):
    context = Context({"request": request, **values})
    return Template("{% load redis_pubsub %}" + text).render(context)


def late(request, pk):
    """A view with a failpoint: somebody speaks between the query and the page."""
    bodies = list(Message.objects.values_list("body", flat=True))
    elsewhere(lambda: say("between"))
    return HttpResponse(render("{% live_script %}", request) + ",".join(bodies))


class LateView(LivePageMixin, View):
    live_channels = ["room:{pk}"]

    def get(self, request, pk):
        return late(request, pk)


async def late_async(request, pk):
    return await sync_to_async(late)(request, pk)


def lazy(request, pk):
    """The queryset is lazy, and evaluated inside the tag."""
    text = (
        "{% live channel as room %}{% for m in messages %}{{ m.body }},{% endfor %}"
        "{{ speak }}{{ room.channel }}{% endlive %}"
    )
    rows = Message.objects.all()
    html = render(
        text,
        request,
        channel=f"room:{pk}",
        messages=rows,
        speak=lambda: elsewhere(lambda: say("between")) or "",
    )
    return HttpResponse(html)


def queried_first(request, pk):
    """Looks at the database before it asks where the channel stands."""
    Message.objects.count()
    return HttpResponse(render('{% live "room:1" %}{% endlive %}', request))


urlpatterns = [
    path("late/<int:pk>/", live_page("room:{pk}")(late)),
    path("class/<int:pk>/", LateView.as_view()),
    path("async/<int:pk>/", live_page("room:{pk}")(late_async)),
    path("lazy/<int:pk>/", lazy),
    path("queried/<int:pk>/", queried_first),
    *others,
]


@pytest.fixture
def pages(settings, site):
    settings.REDIS_PUBSUB = site | {"channels": RULES, "live": LIVE}
    settings.ROOT_URLCONF = __name__
    return Client()


async def heard_since(serve, html, until):
    """What a client that begins where the page says is told."""
    served = await serve()
    ws = await served.connect("/connection/websocket")
    wish = {"channel": "room:1", "recover": True, **positions(html)["room:1"]}
    await ws.send_str('{"id":1,"connect":{}}\n' + json.dumps({"id": 2, "subscribe": wish}))
    await ws.receive_str()
    result = json.loads(await ws.receive_str())["subscribe"]
    assert result["recovered"]
    return [each["data"] for each in result.get("publications", [])]


@pytest.mark.parametrize("page", ["late", "class", "async", "lazy"])
async def test_what_is_said_between_the_query_and_the_page_arrives(
    pages, serve, until, page
):
    """The position is read before the data, so the two overlap and nothing is missed."""
    await sync_to_async(then_closed)(say, "before")

    answer = await sync_to_async(then_closed)(pages.get, f"/{page}/1/")

    html = answer.content.decode()
    assert "before" in html and "between" not in html
    heard = json.dumps(await heard_since(serve, html, until))
    assert "between" in heard


@pytest.fixture
def repeatable_read():
    """The strictest a site may have: the whole request sees one state of the database."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's readers and writers wait for each other here")
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    options["isolation_level"] = 3
    connection.close()
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False
    options.clear()
    options.update(before)
    connection.close()


@pytest.mark.parametrize("page", ["late", "class", "lazy"])
async def test_under_repeatable_read_nothing_falls_between_either(
    repeatable_read, pages, serve, until, page
):
    """ATOMIC_REQUESTS: the transaction's state is taken after the position was read."""
    await sync_to_async(then_closed)(say, "before")

    answer = await sync_to_async(then_closed)(pages.get, f"/{page}/1/")

    html = answer.content.decode()
    assert "before" in html and "between" not in html
    assert "between" in json.dumps(await heard_since(serve, html, until))


def test_under_repeatable_read_a_position_after_a_query_is_refused(repeatable_read, pages):
    """The tag would read a position newer than its data: it says what to do instead."""
    with pytest.raises(ImproperlyConfigured, match="@live_page"):
        pages.get("/queried/1/")


def test_without_a_transaction_a_query_before_the_tag_is_fine(pages):
    """Each query sees what is so when it is made."""
    assert positions(pages.get("/queried/1/").content.decode())["room:1"]["epoch"]


def test_the_position_read_by_the_view_is_the_tags(pages, rf):
    """A channel is asked once; the earlier position is the right one."""
    request = rf.get("/")
    seen = []

    @live_page("room:{pk}")
    def view(request, pk):
        elsewhere(lambda: say("meanwhile"))
        seen.append(render('{% live "room:1" %}{% endlive %}', request))
        return HttpResponse()

    view(request, pk=1)

    assert positions(seen[0])["room:1"]["offset"] == 0


def test_the_script_tag_loads_the_module_and_says_where_the_endpoint_is(settings, site):
    """Nonce, static files' own name, the endpoint's place."""
    settings.REDIS_PUBSUB = site | {"live": {"path": "/rt/live/"}}
    request = RequestFactory().get("/")
    request.csp_nonce = 'a"b'

    html = render("{% live_script %}", request)

    assert 'src="/static/redis_pubsub/redis_pubsub.js"' in html
    assert 'type="module"' in html and 'nonce="a&quot;b"' in html
    (config,) = re.findall(r"data-live-config>(.*?)</script>", html)
    assert json.loads(config) == {"path": "/rt/live", "emulation": "/rt/emulation"}


def test_the_script_tag_has_a_form_for_pages_without_modules(site):
    """A classic script, no type."""
    html = render("{% live_script classic=True %}")

    assert "redis_pubsub.classic.js" in html and 'type="module"' not in html


def test_hashed_names_are_used_where_the_site_has_them(settings, site, tmp_path):
    """T-14: ManifestStaticFilesStorage: the tag goes through the site's storage."""
    (tmp_path / "staticfiles.json").write_text(
        json.dumps(
            {"version": "1.1", "paths": {"redis_pubsub/redis_pubsub.js": "abc.123.js"}}
        )
    )
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {
            "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
        }
    }

    assert 'src="/static/abc.123.js"' in render("{% live_script %}")


def test_a_channels_name_cannot_end_the_element(site):
    """Names are users' texts."""
    name = "</script><script>alert(1)</script>"

    html = render("{% live name %}{% endlive %}", name=name)

    assert html.count("</script>") == 1
    assert list(positions(html)) == [name]


def test_a_channel_without_history_has_no_position(settings, site, caplog):
    """It could not be followed from one; the log says why."""
    settings.REDIS_PUBSUB = site | {"channels": {"raw:*": {"history_size": 0}}}

    html = render('{% live "raw:7" %}inside{% endlive %}')

    assert html == "inside"
    assert "keeps no history" in caplog.text


def test_a_page_is_shown_while_redis_is_down(settings, caplog):
    """Its client is told later that it was not recovered, and loads its state anew."""
    settings.REDIS_PUBSUB = {"url": "redis://127.0.0.1:1/0"}

    html = render('{% live "room:1" %}inside{% endlive %}')

    assert html.endswith("inside")
    assert positions(html)["room:1"] == {"epoch": "_", "offset": 0}
    assert "cannot say where" in caplog.text


def test_what_is_published_after_the_position_has_a_history(site):
    """A plain value on a channel that a page follows is kept, as a model's message is."""
    html = render('{% live "room:9" %}{% endlive %}')

    publish("room:9", {"n": 1})

    begin = positions(html)["room:9"]
    again = positions(render('{% live "room:9" %}{% endlive %}'))["room:9"]
    assert again == {"epoch": begin["epoch"], "offset": 1}


def test_a_tag_that_is_written_wrong_says_how(site):
    with pytest.raises(TemplateSyntaxError, match="live"):
        render('{% live "a" "b" %}{% endlive %}')
