"""What handlers' callbacks and forwarded sockets get of it."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub.broker import Read
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.publishing.control import arefresh
from redis_pubsub.readers import SubscriptionManager
from tests.shop.models import Document, Note

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def engine(site, transactional_db):
    from redis_pubsub.conf import get_config
    from redis_pubsub.engine import Engine

    engine = Engine(get_config())
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
async def managers(engine, user, staff):
    found = [SubscriptionManager(engine, user=each) for each in (user, staff)]
    yield found
    for manager in found:
        await manager.stop()


async def listen(manager, who):
    """Hear all that a user is subscribed to; what his callback gets."""
    got = asyncio.Queue()

    def take(channel, value):
        got.put_nowait_threadsafe(value)

    loop = asyncio.get_running_loop()
    got.put_nowait_threadsafe = lambda value: loop.call_soon_threadsafe(
        got.put_nowait, value
    )
    await manager.listen_to_all_subscriptions(who, take)
    return got


async def next_of(queue):
    async with asyncio.timeout(5):
        return await queue.get()


async def test_a_callback_gets_the_instance_as_it_was_published(
    engine, managers, write, stored, user, staff
):
    """Withheld for users that may not view; `publication` is what its audience sees."""
    theirs = await listen(managers[0], user)
    mine = await listen(managers[1], staff)

    await write("hidden", notes="x", is_public=False)
    row = await write("a", notes="n")
    await stored(row.delete)

    assert (await next_of(mine)).title == "hidden"
    for queue, payload in ((theirs, {"title": "a"}), (mine, {"title": "a", "notes": "n"})):
        value = await next_of(queue)
        assert (value.title, value.notes) == ("a", "n")
        assert payload.items() <= value.publication.payload.items()
        assert (await next_of(queue)).publication.event == "delete"
    assert theirs.empty() and "notes" not in value.publication.header.audience


async def test_a_coroutine_and_an_iterator_get_it_too(engine, managers, write, board, user):
    """All kinds of readers have their user's eyes."""
    got = asyncio.Queue()

    async def take(channel, value):
        got.put_nowait(value.title)

    await managers[0].listen_to_all_subscriptions(user, take)

    await write("hidden", is_public=False)
    await write("a")

    assert await next_of(got) == "a"


async def test_who_catches_up_is_handed_what_he_may_view(
    engine, managers, board, stored, user, staff
):
    """Rows of others that were never delivered are not handed over either."""
    await stored(Note.objects.create, channel=board, owner=staff, text="theirs")
    await stored(Note.objects.create, channel=board, owner=user, text="mine")
    got = asyncio.Queue()

    async def take(channel, value):
        got.put_nowait(value.text)

    await managers[0].listen_to_all_subscriptions(user, take, catch_up=True)
    await stored(Note.objects.create, channel=board, owner=staff, text="theirs too")
    await stored(Note.objects.create, channel=board, owner=user, text="mine too")

    assert [await next_of(got) for _ in range(2)] == ["mine", "mine too"]


async def test_a_reader_asks_anew_when_its_user_changed(
    engine, managers, write, stored, user, until
):
    """`refresh` reaches handlers' readers, whose user is read from the database again."""
    got = await listen(managers[0], user)
    await write("a")
    await next_of(got)
    user.is_staff = True
    await stored(user.save)

    changes = engine.hub.viewers.changes
    await arefresh(user)
    await until(lambda: engine.hub.viewers.changes > changes)
    await write("hidden", is_public=False)

    assert (await next_of(got)).title == "hidden"


@websocket_pubsub("/board/", authenticate=True)
async def forwarded(ws, params, manager, user):
    await manager.forward(ws, "board")
    await ws.send_str("ready")
    await ws.receive()


@websocket_pubsub("/open/")
async def nobody(ws, params, manager):
    await manager.forward(ws, "board")
    await ws.send_str("ready")
    await ws.receive()


async def test_forwarded_sockets_get_their_users_view(
    serve, write, user, staff, site, settings
):
    """`manager.forward` has the eyes of the handler's user, or nobody's."""
    from rest_framework.authtoken.models import Token

    served = await serve(forwarded, nobody)
    sockets = []
    for who in (user, staff, None):
        headers = {}
        if who is not None:
            token = await Token.objects.acreate(user=who)
            headers = {"Authorization": f"Token {token.key}"}
        path = "/board/" if who else "/open/"
        sockets.append(await served.connect(path, headers=headers))
        assert await sockets[-1].receive_str(timeout=5) == "ready"

    await write("hidden", is_public=False)
    await write("a", notes="n")

    assert await sockets[0].receive_json(timeout=5) == {"title": "a"}
    assert (await sockets[1].receive_json(timeout=5))["title"] == "hidden"
    assert (await sockets[1].receive_json(timeout=5))["notes"] == "n"
    assert await sockets[2].receive_json(timeout=5) == {"title": "a"}


async def test_who_was_read_while_another_changed_is_shown_what_is_his(
    engine, board, stored, user, staff, monkeypatch
):
    """A change of one user does not leave another one half known, who then gets nothing."""
    stranger = engine.hub.viewers.add(staff)
    ask = engine.audiences.renderer.ask

    def ask_meanwhile(*args):
        answer = ask(*args)
        engine.loop.call_soon_threadsafe(stranger.forget)
        return answer

    monkeypatch.setattr(engine.audiences.renderer, "ask", ask_meanwhile)
    await stored(Document.objects.create, channel=board, title="a")
    viewer = engine.hub.viewers.add(None, str(user.pk))
    stored_messages = await engine.hub.broker.read([Read("board", limit=9)])

    shown = await engine.audiences.shown("board", stored_messages[0].messages, viewer)

    assert [message.payload["title"] for message in shown] == ["a"]
