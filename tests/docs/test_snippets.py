"""The other examples of the documentation, executed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import unittest

import aiohttp
import pytest
import redis

from redis_pubsub import apublish
from redis_pubsub.broker import Read
from redis_pubsub.broker.scripts import PUBLISH
from redis_pubsub.contrib.websockets import setup, websocket_pubsub
from redis_pubsub.testing import eager_jobs
from tests.processes import ROOT, Process

DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
TUTORIAL = SNIPPETS / "tutorial"
MODULES = sorted(path.stem for path in SNIPPETS.glob("*.py"))
PARTS = ("apps", "__init__", "urls")
"""Modules that hold the others together and are not shown."""


@pytest.mark.parametrize("name", MODULES)
def test_every_snippet_is_executed_and_shown(letters, name):
    """A file that does not import, or that no page includes, is noticed."""
    letters(name)

    pages = "".join(page.read_text() for page in DOCS.rglob("*.rst"))
    assert name in PARTS or f"snippets/{name}.py" in pages


def test_the_readmes_examples_are_the_tutorials():
    """README.rst is shown where nothing can be included; what it says is executed all the
    same."""
    readme = (ROOT / "README.rst").read_text()
    shown = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", readme)
    executed = "".join(path.read_text() for path in TUTORIAL.rglob("*.py"))
    executed += (TUTORIAL / "board/templates/board/board.html").read_text()

    def lines(text):
        code = (line.partition("  # ")[0].strip() for line in text.splitlines())
        return [line for line in code if line]

    known = set(lines(executed))
    assert shown
    for block in shown:
        if "REDIS_PUBSUB" in block:
            continue  # executed by test_live.py
        code = [line for line in lines(block) if not line.startswith("#")]
        assert [line for line in code if line not in known] == []


@pytest.mark.may_block(reason="starts and stops a server process")
async def test_the_tutorials_site_shows_a_note_in_every_browser(tmp_path):
    """docs/tutorial.rst from `migrate` to two open pages, in memory."""
    env = {
        "DJANGO_SETTINGS_MODULE": "mysite.settings",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    for path in TUTORIAL.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".html"):
            target = tmp_path / path.relative_to(TUTORIAL)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text())
    manage = str(tmp_path / "manage.py")
    for command in (["makemigrations", "board"], ["migrate", "--verbosity", "0"]):
        subprocess.run(
            [sys.executable, manage, *command], env={**os.environ, **env}, check=True
        )

    with Process(
        *(manage, "pubsub_serve", "--noreload", "--host", "127.0.0.1", "--port", "0"),
        env=env,
    ) as server:
        server.wait_for("Server running on http://127.0.0.1:")
        url = "http://" + re.search(r"127\.0\.0\.1:\d+", server.output)[0]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            page = await (await http.get(url)).text()
            form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]
            browsers = [await http.ws_connect(f"{url}/ws/board") for _ in range(2)]
            posted = await http.post(
                url, data={"text": "milk & eggs", "csrfmiddlewaretoken": form}
            )
            assert "milk &amp; eggs" in await posted.text()
            for browser in browsers:
                assert (await browser.receive_json())["text"] == "milk & eggs"
                await browser.close()
        assert server.end(signal.SIGINT) == 0


def test_the_example_tests_of_a_site_pass(letters):
    """docs/howto/testing.rst: a `TestCase` with captured messages and a socket."""
    case = letters("testing").MessageTest
    result = unittest.TestResult()

    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)

    assert result.testsRun == 2
    assert [*result.errors, *result.failures] == []


@websocket_pubsub("/hear/{channel}")
async def hear(ws, params, manager):
    await manager.forward(ws, params["channel"])
    ws.send_str("ready")
    await ws.receive()


async def test_a_producer_without_django_is_heard(
    letters, serve, settings, site, prefix, redis_server
):
    """docs/reference/wire.rst: a plain PUBLISH, and the script with its history."""
    produce = letters("produce")
    settings.REDIS_PUBSUB = site | {"channels": {"log": {"history_size": 10}}}
    served = await serve(hear)
    news, log = await served.connect("/hear/news"), await served.connect("/hear/log")
    assert [await news.receive_str(), await log.receive_str()] == ["ready", "ready"]

    with redis.Redis(unix_socket_path=str(redis_server.path)) as client:
        produce.publish(client, prefix, "news", {"text": "hello"})
        epoch, offset = produce.publish_with_history(
            client, PUBLISH.text, prefix, "log", {"text": "kept"}, size=10, ttl_s=60
        )

    assert await news.receive_json() == {"text": "hello"}
    assert await log.receive_json() == {"text": "kept"}
    history = (await served.engine.hub.broker.read([Read("log")]))[0]
    assert (history.position.epoch, history.position.offset) == (epoch.decode(), offset)
    assert [message.payload for message in history.messages] == [{"text": "kept"}]


async def test_a_signed_message_is_heard_and_a_forged_one_is_not(
    letters, serve, settings, site, prefix, redis_server
):
    """docs/reference/wire.rst, "Signatures": the producer's and the site's agree."""
    settings.REDIS_PUBSUB = site | {"envelope_key": "shared"}
    served = await serve(hear)
    news = await served.connect("/hear/news")
    assert await news.receive_str() == "ready"

    with redis.Redis(unix_socket_path=str(redis_server.path)) as client:
        for key, text in (("", "unsigned"), ("another", "forged"), ("shared", "true")):
            letters("produce").publish(client, prefix, "news", {"text": text}, key=key)

    assert await news.receive_json() == {"text": "true"}
    assert served.engine.metrics["malformed_messages"] == 2


def test_pages_name_no_file_that_is_not_there():
    """Every literalinclude has its file (Sphinx says so too, but only `make docs`)."""
    for page in DOCS.rglob("*.rst"):
        for name in re.findall(r"literalinclude:: (\S+)", page.read_text()):
            assert (page.parent / name).resolve().exists(), (page, name)


def test_the_snippets_directory_is_where_the_pages_look():
    """The list above is not empty by accident."""
    assert {"models", "views", "websockets", "deployment"} <= set(MODULES)
    assert (TUTORIAL / "manage.py").exists()


@pytest.mark.django_db
def test_the_example_of_a_job_runs(letters, rf, admin_user):
    """docs/howto/workers.rst: the view answers; the job counts, and sends another."""
    consumers, models = letters("consumers"), letters("models")
    correspondence = models.Correspondence.objects.create()
    request = rf.post("/", {"body": "one two three"})
    request.user = admin_user

    with eager_jobs([consumers.count_words, consumers.announce]) as jobs:
        letters("sending").post(request, correspondence)

    assert [job.name for job in jobs] == ["count_words", "announce", "announce"]
    assert [job.kwargs for job in jobs[1:]] == [{"text": "in an hour"}, {"text": "3 words"}]


@pytest.mark.django_db(transaction=True)
async def test_the_example_receivers_run(letters, serve, site, until, capsys):
    """docs/howto/receivers.rst: a name, patterns, and once in the cluster."""
    consumers = letters("consumers")
    receivers = [consumers.to_log, consumers.greet, consumers.book]
    served = await serve(app=setup(handlers=[hear], receivers=receivers))
    ws = await served.connect("/hear/room:12")
    assert await ws.receive_str() == "ready"
    await until(lambda: served.engine.hub.is_heard("announcements"))
    await until(lambda: served.engine.hub.is_heard("orders"))

    await apublish("announcements", {"text": "hello"})
    await apublish("room:12", "hi")
    await apublish("orders", {"message": 7})
    await until(lambda: served.engine.metrics["received"] == 3)

    assert "announcements {'text': 'hello'}" in capsys.readouterr().out
    state = (await served.engine.hub.broker.jobs.state(["count_words"]))["count_words"]
    assert state.waiting == 1
