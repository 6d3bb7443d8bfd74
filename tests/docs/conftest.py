"""The apps that the documentation's snippets are part of, installed for one test."""

from __future__ import annotations

import contextlib
import importlib

import pytest
from django.apps import apps
from django.db import connection

from tests.processes import ROOT

APP = "docs.snippets"


@pytest.fixture
def letters(settings, transactional_db):
    """Install the app ``letters`` with its tables; gives ``snippet(name)``, its modules."""
    with _installed(settings, "docs.snippets.apps.LettersConfig", "docs.snippets.urls"):
        yield lambda name: importlib.import_module(f"{APP}.{name}")


@pytest.fixture
def rooms(settings, transactional_db, monkeypatch):
    """Install the app ``rooms`` of docs/howto/live.rst; gives its modules by name."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/snippets/live"))
    with _installed(settings, "rooms.apps.RoomsConfig", "rooms.urls"):
        yield lambda name: importlib.import_module(f"rooms.{name}")


@contextlib.contextmanager
def _installed(settings, app, urls):
    others = [each for each in settings.INSTALLED_APPS if each != "tests.shop"]
    settings.INSTALLED_APPS = [*others, app]
    # Reverse relations of models that were loaded before are remembered.
    apps.clear_cache()
    settings.ROOT_URLCONF = urls
    label = next(each.label for each in apps.get_app_configs() if app.startswith(each.name))
    models = list(apps.get_app_config(label).get_models())
    with connection.schema_editor() as editor:
        for model in models:
            editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in reversed(models):
            editor.delete_model(model)


class Probe:
    """A listener that hears and keeps nothing."""

    framing = None
    connection_id = ""

    def offer(self, messages):
        pass

    def position_lost(self, channel):
        pass


@pytest.fixture
def heard(until):
    """``await heard(served, channel)``: until a handler hears a channel for certain."""

    async def wait(served, channel):
        await until(lambda: channel in served.engine.hub.channels)
        # All listeners of a channel share one Redis subscription; this waits for it.
        await served.engine.hub.listen(channel, Probe())

    return wait
