"""The app that the documentation's snippets are part of, installed for one test."""

from __future__ import annotations

import importlib

import pytest
from django.apps import apps
from django.db import connection

APP = "docs.snippets"


@pytest.fixture
def letters(settings, transactional_db):
    """Install the app ``letters`` with its tables; gives ``snippet(name)``, its modules."""
    others = [app for app in settings.INSTALLED_APPS if app != "tests.shop"]
    settings.INSTALLED_APPS = [*others, "docs.snippets.apps.LettersConfig"]
    # Reverse relations of models that were loaded before are remembered.
    apps.clear_cache()
    settings.ROOT_URLCONF = "docs.snippets.urls"
    models = list(apps.get_app_config("letters").get_models())
    with connection.schema_editor() as editor:
        for model in models:
            editor.create_model(model)
    yield lambda name: importlib.import_module(f"{APP}.{name}")
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
