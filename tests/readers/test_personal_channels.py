"""Handlers hear what is sent to people, and what channels show to who is new."""

from __future__ import annotations

import aiohttp
import pytest
from django.contrib.auth.models import Group

from redis_pubsub import ChannelReader, apublish, apublish_to
from redis_pubsub.addresses import personal_channel, session_channel
from redis_pubsub.conf import get_config
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.engine import Engine
from redis_pubsub.hub import Admission
from redis_pubsub.readers import SubscriptionManager
from tests.readers.heard import Heard

pytestmark = pytest.mark.django_db(transaction=True)


async def test_callbacks_hear_what_is_for_their_user(manager, user, other_user):
    """W-1: him, his groups, his session, everybody; nobody else's."""
    await user.groups.aadd(await Group.objects.acreate(name="editors"))
    heard = Heard()
    await manager.listen_to_personal_channels(user, heard, session_key="key")

    await apublish_to("not you", users=[other_user], groups=["others"], sessions=["no"])
    await apublish_to(1, users=[user])
    await apublish_to(2, groups=["editors"])
    await apublish_to(3, sessions=["key"])
    await apublish_to(4, broadcast=True)

    assert sorted(await heard.wait_for(4)) == [1, 2, 3, 4]
    assert set(manager.readers) == {
        personal_channel(str(user.pk)),
        session_channel("key"),
        "group:editors",
        "broadcast",
    }


@websocket_pubsub("/bell/")
async def bell(ws, params, manager):
    await manager.forward_personal_channels(ws, None)
    await ws.send_str("ready")
    async for _ in ws:
        pass


async def test_frames_go_straight_to_a_socket(serve, transactional_db):
    """A handler without a user hears what is for everybody."""
    served = await serve(bell)
    ws = await served.connect("/bell/")
    assert await ws.receive_str() == "ready"

    await apublish_to({"n": 1}, broadcast=True)

    assert await ws.receive_str() == '{"n":1}'


async def test_who_is_new_gets_what_the_channel_shows(site, settings, serve, user):
    """W-3: `replay` for handlers: frames and callbacks alike, before anything live."""
    settings.REDIS_PUBSUB = site | {"channels": {"board": {"history_size": 5, "replay": 2}}}

    @websocket_pubsub("/board/")
    async def board(ws, params, manager):
        if "plain" in params:
            reader = ChannelReader("board", manager)
            reader.callback(lambda name, value: ws.send_json(value))
            await reader.listen()
        else:
            await manager.forward(ws, "board")
        async for _ in ws:
            pass

    served = await serve(board)
    for n in range(3):
        await apublish("board", n)

    for path in ("/board/", "/board/?plain"):
        ws = await served.connect(path)
        assert [await ws.receive_json() for _ in range(2)] == [1, 2]
        assert ws.exception() is None
    await apublish("board", "live")
    assert (await ws.receive()).type is aiohttp.WSMsgType.TEXT


async def test_a_reader_that_is_removed_while_it_starts_hears_nothing_afterwards(
    site, settings, user, transactional_db, monkeypatch
):
    """`replay`: a right that ends while the history is read ends the reader too."""
    settings.REDIS_PUBSUB = site | {"channels": {"board": {"history_size": 5, "replay": 2}}}
    engine = Engine(get_config())
    await engine.start()
    manager = SubscriptionManager(engine)
    reader = ChannelReader("board", manager).callback(print)
    prepare = Admission.prepare

    async def slowly(admission, *args, **options):
        await prepare(admission, *args, **options)
        await manager.remove(reader)

    monkeypatch.setattr(Admission, "prepare", slowly)
    manager.add(reader)
    future = await reader.listen()

    assert future.cancelled() and not engine.hub.listeners("board")
    await manager.stop()
    await engine.close()
