"""``/healthz`` and ``/readyz``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time

import pytest
from django.db import OperationalError

from redis_pubsub.contrib.monitoring import health
from redis_pubsub.contrib.monitoring.health import Health
from redis_pubsub.contrib.websockets import setup
from redis_pubsub.contrib.websockets.runner import Runner
from redis_pubsub.testing import RedisServer
from redis_pubsub.web.connections import Connections

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def own_server(settings, prefix):
    """A Redis that may be stopped."""
    with RedisServer() as server:
        settings.REDIS_PUBSUB = {"url": server.url, "prefix": prefix}
        yield server


async def ask(served, path="/readyz"):
    async with served.http.get(served.url + path) as answer:
        return answer.status, await answer.json()


async def ready(served):
    async with asyncio.timeout(10):
        while (await ask(served))[0] != 200:
            await asyncio.sleep(0.01)


async def test_a_process_is_ready_when_messages_arrive(serve):
    """200, small, and not stored by anybody."""
    served = await serve()
    await ready(served)

    async with served.http.get(served.url + "/readyz") as answer:
        assert await answer.json() == {"ready": True}
        assert answer.headers["Cache-Control"] == "no-store"
    assert await ask(served, "/healthz") == (200, {"alive": True})


async def test_a_redis_that_stops_is_red_within_five_seconds(site, own_server, serve):
    """I12: connected, and nothing arrives: 503 with the reason in 5 s, /healthz stays
    green, and all is green within 5 s of Redis going on."""
    served = await serve()
    await ready(served)
    os.kill(own_server.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        async with asyncio.timeout(10):
            while (answer := await ask(served))[0] == 200:
                await asyncio.sleep(0.05)
        red_s = time.monotonic() - began
        alive = await ask(served, "/healthz")
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    began = time.monotonic()
    await ready(served)

    assert red_s <= 5.2 and time.monotonic() - began <= 5
    assert alive == (200, {"alive": True})
    status, body = answer
    assert status == 503 and body["ready"] is False
    assert body["problems"]["redis"].startswith("nothing has arrived for 5.")


async def test_a_redis_that_is_not_there_is_red(settings, serve, until, tmp_path):
    """From the start; the address is not in the answer."""
    settings.REDIS_PUBSUB = {"url": f"unix://{tmp_path}/none.sock"}
    served = await serve()

    status, body = await ask(served)

    assert status == 503
    assert body["problems"] == {"redis": "nothing has arrived yet"}


async def test_the_probe_option_decides_when_a_silence_is_red(settings, serve, own_server):
    """Two and a half times ``probe_s``."""
    settings.REDIS_PUBSUB = {**settings.REDIS_PUBSUB, "limits": {"probe_s": 0.2}}
    served = await serve()
    await ready(served)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        async with asyncio.timeout(10):
            while (await ask(served))[0] == 200:
                await asyncio.sleep(0.01)
        assert time.monotonic() - began < 1.5
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
    await ready(served)


async def test_a_database_that_refuses_is_red_and_its_words_stay_in_the_log(
    serve, monkeypatch, caplog
):
    """The reason is in the log, once; the answer names the database alone."""

    def refuse():
        raise OperationalError('password authentication failed for user "secret-name"')

    served = await serve()
    await ready(served)
    monkeypatch.setattr(health, "DATABASE_FRESH_S", 0)
    monkeypatch.setattr(health, "_reach_database", refuse)

    answers = [await ask(served) for _ in range(3)]

    problems = {"database": "does not answer"}
    assert answers == [(503, {"ready": False, "problems": problems})] * 3
    assert caplog.text.count("the database does not answer") == 1
    assert "secret-name" in caplog.text
    assert served.engine.metrics["database_unavailable"] == 3


async def test_a_database_that_hangs_costs_one_thread(serve, monkeypatch):
    """Nobody waits longer than the limit, and however many ask, one question is open."""
    hung, calls = threading.Event(), []

    def hang():
        calls.append(1)
        hung.wait(20)

    served = await serve()
    await ready(served)
    monkeypatch.setattr(health, "DATABASE_FRESH_S", 0)
    monkeypatch.setattr(health, "DATABASE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(health, "_reach_database", hang)
    try:
        answers = await asyncio.gather(*(ask(served) for _ in range(20)))
        again = await ask(served)
    finally:
        hung.set()

    assert {status for status, _ in [*answers, again]} == {503}
    assert again[1]["problems"] == {"database": "no answer within 0.2 s"}
    assert len(calls) == 1
    await ready(served)


async def test_the_database_is_asked_every_few_seconds_only(serve, monkeypatch):
    """A balancer that asks often does not load the database."""
    calls = []
    monkeypatch.setattr(health, "_reach_database", lambda: calls.append(1))
    served = await serve()

    for _ in range(20):
        await ask(served)

    assert len(calls) == 1


async def test_a_process_that_is_about_to_end_is_not_ready(serve):
    """A balancer sends nobody there."""
    served = await serve()
    await ready(served)

    served.engine.part(Connections).hang_up()

    assert await ask(served) == (
        503,
        {"ready": False, "problems": {"process": "about to end"}},
    )
    assert served.engine.part(Health).glance()


async def test_paths_are_a_setting(site, settings, serve):
    """Others, or none at all."""
    settings.REDIS_PUBSUB = {**site, "health": {"healthz": "/-/alive", "readyz": ""}}
    served = await serve()

    assert await ask(served, "/-/alive") == (200, {"alive": True})
    for path in ("/readyz", "/healthz"):
        async with served.http.get(served.url + path) as answer:
            assert answer.status == 404


async def test_successful_checks_are_not_in_the_access_log(serve, site, caplog):
    """They come every second; a failure is worth its line."""
    from tests.conftest import Served

    caplog.set_level(logging.INFO)
    runner = Runner(setup(handlers=[]), drain_s=1, access_log=logging.getLogger("access"))
    await runner.setup()
    from aiohttp import ClientSession, web

    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as http:
        served = Served(runner, runner.addresses[0][1], http)
        await ask(served, "/healthz")
        await ready(served)
        runner.app.freeze()
        served.engine.part(Connections)._is_draining = True
        await ask(served)
    await runner.cleanup()

    lines = [r.getMessage() for r in caplog.records if r.name == "access"]
    assert not [line for line in lines if "/healthz" in line or " 200 " in line]
    assert [line for line in lines if "/readyz" in line and " 503 " in line]
