"""Who is there, asked from Django."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async

import redis_pubsub
from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.exceptions import BrokerUnavailable, InvalidChannelName
from redis_pubsub.models import Channel
from redis_pubsub.publishing.present import PresentClient, PresentUser
from redis_pubsub.publishing.publisher import publisher

ADA = PresentClient("c1", "7", {"user": "7", "client": "c1"})
TAB = PresentClient("c2", "7", {"user": "7", "client": "c2"})
ANYBODY = PresentClient("c3", "", {"client": "c3"})


@pytest.fixture(params=["redis", "memory"])
def somewhere(request, site, settings):
    """Either broker."""
    if request.param == "memory":
        settings.REDIS_PUBSUB = {**site, "url": f"memory://{site['prefix']}"}


@pytest.fixture
async def engine(somewhere):
    """A serving process with three members in ``room``."""
    engine = Engine(get_config())
    await engine.start()
    for client, user in (("c1", "7"), ("c2", "7"), ("c3", "")):
        info = f'{{"user":"{user}","client":"{client}"}}' if user else '{"client":"c3"}'
        await engine.presence.enter("room", client, user, info.encode())
    yield engine
    await engine.close()


def by_client(clients):
    return sorted(clients, key=lambda client: client.client)


async def test_a_view_asks_who_is_there(engine):
    """W-13, C-8: by client, each with its info decoded."""
    there = await asyncio.to_thread(redis_pubsub.presence, "room")

    assert by_client(there) == [ADA, TAB, ANYBODY]
    assert await asyncio.to_thread(redis_pubsub.presence, "nowhere") == []


async def test_by_user_tabs_are_merged(engine):
    """C-8: primary keys as text; the anonymous are one entry."""
    there = await asyncio.to_thread(redis_pubsub.presence, "room", by="user")

    users = {user: by_client(clients) for user, clients in there}
    assert users == {"7": [ADA, TAB], "": [ANYBODY]}
    assert all(isinstance(entry, PresentUser) for entry in there)


async def test_a_coroutine_asks_its_own_engine(engine):
    """No thread, and the process looks for dead ones from then on."""
    there = await redis_pubsub.apresence("room")
    users = await redis_pubsub.apresence("room", by="user")

    assert by_client(there) == [ADA, TAB, ANYBODY]
    assert sorted(entry.user for entry in users) == ["", "7"]


async def test_a_coroutine_without_an_engine_asks_through_a_thread(engine):
    """A script, a management command."""

    def script():
        return asyncio.run(redis_pubsub.apresence("room"))

    there = await asyncio.to_thread(script)

    assert by_client(there) == [ADA, TAB, ANYBODY]


@pytest.mark.django_db(transaction=True)
async def test_a_row_tells_who_is_on_its_channel(engine):
    """`Channel.presence` and its async twin."""
    channel = Channel(name="room")

    clients = await sync_to_async(channel.presence)()
    users = await sync_to_async(channel.presence)(by="user")

    assert by_client(clients) == [ADA, TAB, ANYBODY]
    assert sorted(entry.user for entry in users) == ["", "7"]
    assert by_client(await channel.apresence()) == [ADA, TAB, ANYBODY]
    assert len(await channel.apresence(by="user")) == 2


async def test_an_engine_that_closes_takes_its_members_out(engine):
    """Nobody is left behind by a deploy."""
    await engine.close()

    assert await asyncio.to_thread(redis_pubsub.presence, "room") == []


def test_mistakes_are_told(site):
    """A word that is none, a name that is none, a server that is not there."""
    with pytest.raises(ValueError, match="not by 'tab'"):
        redis_pubsub.presence("room", by="tab")
    with pytest.raises(InvalidChannelName):
        redis_pubsub.presence("")


def test_without_redis_the_caller_is_told(settings):
    """Nobody there and not known are two things."""
    settings.REDIS_PUBSUB = {"url": "unix:///nowhere/redis.sock"}

    with pytest.raises(BrokerUnavailable):
        redis_pubsub.presence("room")
    publisher.close()


async def test_on_a_loop_the_sync_form_names_the_other(site):
    """It would block every socket."""
    with pytest.raises(RuntimeError, match="await apresence"):
        redis_pubsub.presence("room")
