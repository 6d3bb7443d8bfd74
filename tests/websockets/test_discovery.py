"""Finding handlers in every installed app, and failing loudly."""

from __future__ import annotations

import sys

import pytest

from redis_pubsub.contrib.websockets import load_handlers, setup
from redis_pubsub.exceptions import HandlerConfigError

HANDLER = """
from redis_pubsub.contrib.websockets import websocket

@websocket("/{route}")
async def handler(ws, params): ...

{names} = ["handler"]
"""


@pytest.fixture
def make_app(tmp_path, settings, monkeypatch):
    """Write an app of a layout and install it."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(name, files, entry=None):
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        made.append(name)
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, entry or name]

    yield make
    for module in [m for m in sys.modules if m.partition(".")[0] in made]:
        del sys.modules[module]


CONFIG = """
from django.apps import AppConfig

class TheConfig(AppConfig):
    name = "{name}"
    label = "{name}_label"
"""


@pytest.mark.parametrize(
    ("name", "files", "entry"),
    [
        ("plain", {"websockets.py": HANDLER.format(route="a", names="handlerconf")}, None),
        ("older", {"websockets.py": HANDLER.format(route="a", names="handlersconf")}, None),
        (
            "package",
            {
                "websockets/__init__.py": (
                    "from .chat import handler\nhandlerconf = ['handler']"
                ),
                "websockets/chat.py": HANDLER.format(route="a", names="ignored"),
            },
            None,
        ),
        (
            "configured",
            {
                "apps.py": CONFIG.format(name="configured"),
                "websockets.py": HANDLER.format(route="a", names="handlerconf"),
            },
            "configured.apps.TheConfig",
        ),
    ],
    ids=["module", "handlersconf", "package", "AppConfig"],
)
def test_every_layout_of_an_app_is_found(make_app, name, files, entry):
    """P-9, M-6, B22: module or package, either list, listed by its AppConfig too."""
    make_app(name, files, entry)

    (handler,) = [h for h in load_handlers() if h.name.startswith(name)]

    assert handler.route[1] == "/a/"
    paths = {route.resource.canonical for route in setup().router.routes()}
    assert {"/a", "/a/"} <= paths


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", ["broken", "broken.websockets", "no_such_module"]),
        ("def x(:", ["broken.websockets", "SyntaxError"]),
        (
            "handlerconf = ['missing']",
            ["broken.websockets", "'missing'", "nothing of that name"],
        ),
        ("def plain(): ...\nhandlerconf = ['plain']", ["'plain'", "@websocket"]),
    ],
)
def test_what_is_wrong_stops_the_start_and_is_named(make_app, text, said):
    """P-9, M-6, bad input: app, module and name in the message, and the cause."""
    make_app("broken", {"websockets.py": text})

    with pytest.raises(HandlerConfigError) as caught:
        setup()

    assert all(part in str(caught.value) for part in said)


def test_a_forgotten_list_is_told_with_what_to_write(make_app, caplog):
    """Handlers that nobody lists are not served, and the log says how to."""
    make_app("forgot", {"websockets.py": HANDLER.format(route="a", names="other")})

    assert [h for h in load_handlers() if h.name.startswith("forgot")] == []
    assert "add handlerconf = ['handler']" in caplog.text


def test_a_list_that_is_a_text_is_told_so(make_app):
    """`handlerconf = "handler"`."""
    make_app("texted", {"websockets.py": "handlerconf = 'handler'"})

    with pytest.raises(HandlerConfigError, match=r'list of names, like \["handler"\]'):
        load_handlers()


def test_an_app_without_handlers_is_no_error(make_app):
    """Most apps have none."""
    make_app("quiet", {"models.py": ""})

    assert [h for h in load_handlers() if h.name.startswith("quiet")] == []
