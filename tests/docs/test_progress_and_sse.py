"""docs/howto/progress.rst and docs/howto/sse.rst: their snippets do what the pages say."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub import alast, apublish, last
from redis_pubsub.codes import Disconnects
from redis_pubsub.contrib.live.server import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_loop_shows_how_far_it_is(site, letters):
    """To its end."""
    saved = []

    letters("progress").import_rows(["a", "b"], saved.append)

    assert saved == ["a", "b"]
    state = last("import")
    assert (state.event, state.payload["current"]) == ("done", 2)


def test_an_import_in_a_transaction_ends_after_it(site, letters, user):
    """On the user's own channel."""
    saved = []

    letters("progress").import_file(user, lambda: ["a", "b", "c"], saved.append)

    assert len(saved) == 3
    state = last(f"user:{user.pk}:import").payload
    assert (state["state"], state["total"], state["label"]) == ("done", 3, "Importing")


async def test_a_loop_of_a_coroutine(site, letters):
    """``async for``."""
    fetched = []

    async def fetch(url):
        fetched.append(url)

    await letters("progress").fetch_all(["a"], fetch)

    assert fetched == ["a"]
    assert (await alast("fetch")).event == "done"


async def test_a_program_listens_and_comes_back(serve, settings, site, letters):
    """The events of a channel, those included that came while it was away."""
    settings.REDIS_PUBSUB = site | {
        "live": {"anonymous": True},
        "channels": {"news": {"subscribe": "anyone", "history_size": 9}},
    }
    served = await serve()
    events = letters("listen").listen(served.http, f"{served.url}/events", "news")
    coming = asyncio.ensure_future(anext(events))
    while "news" not in served.engine.hub.channels:
        await asyncio.sleep(0)

    await apublish("news", {"n": 1}, event="hello")
    assert await asyncio.wait_for(coming, 10) == ("hello", '{"n":1}')

    [stream] = served.engine.part(LiveServer)._connections.values()
    stream.disconnect(Disconnects.FORCE_RECONNECT)
    await apublish("news", 2)

    assert await asyncio.wait_for(anext(events), 10) == ("message", "2")
    await events.aclose()
