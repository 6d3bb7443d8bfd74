"""docs/howto/from-1.0.rst: every example of 1.0's README in its form today, over a real
socket."""

from __future__ import annotations

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError, web
from asgiref.sync import sync_to_async

from redis_pubsub.contrib.websockets import load_handlers
from redis_pubsub.models import Channel

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def correspondence(letters, user, other_user):
    """One of ada and bob."""
    row = await letters("models").Correspondence.objects.acreate()
    await row.participants.aadd(user, other_user)
    return row


@pytest.fixture
async def session(user, client):
    """What ada's browser sends along; a cookie asks for an Origin."""
    await sync_to_async(client.force_login)(user)
    return {
        "Cookie": "; ".join(
            f"{name}={cookie.value}" for name, cookie in client.cookies.items()
        )
    }


def browser(served, session):
    return {**session, "Origin": served.url}


async def test_participants_are_subscribed_and_unsubscribed(correspondence, user):
    """Today `m2m_changed` does what 1.0's `save()` could not: it ran before there were
    participants."""
    assert await user.subscriptions.filter(active=True).acount() == 1

    await correspondence.participants.aremove(user)

    assert await user.subscriptions.filter(active=True).acount() == 0


async def test_a_posted_message_alerts_the_other_participant(
    letters, correspondence, serve, session, other_user, async_client, heard
):
    """1.0's first example, whole: a POST of bob arrives at ada's open socket."""
    served = await serve(letters("websockets").read_messages)
    channel = correspondence.channel.name
    ws = await served.connect(
        f"/read_messages/?channel={channel}", headers=browser(served, session)
    )
    await heard(served, channel)

    await async_client.aforce_login(other_user)
    page = await async_client.post(
        f"/correspondences/{correspondence.pk}/", {"body": "hello"}
    )

    assert page.status_code == 200 and b"bob: hello" in page.content
    assert (await ws.receive_json())["message"].startswith("new message from")
    await ws.close()


async def test_the_view_is_for_participants(letters, correspondence, async_client):
    """1.0's view took any correspondence's number from anybody."""
    from django.contrib.auth.models import User

    await async_client.aforce_login(await User.objects.acreate_user("eve"))

    page = await async_client.post(
        f"/correspondences/{correspondence.pk}/", {"body": "hello"}
    )

    assert page.status_code == 404


async def test_handlerconf_names_the_handlers(letters):
    """The list is found under its README's name, and every name in it."""
    names = letters("websockets").handlerconf

    found = [handler.function.__name__ for handler in load_handlers()]

    assert found == names


async def test_the_handler_at_the_root_and_the_echo_serve(letters, serve):
    """`myhandler` at `/`; `echo` receives one, sends one, and its return closes."""
    module = letters("websockets")
    served = await serve(module.myhandler, module.echo)

    root = await served.connect("/")
    assert await root.receive_str() == "hello"
    echo = await served.connect("/echo")
    await echo.send_str("again")

    assert await echo.receive_str() == "again"
    assert (await echo.receive()).type is WSMsgType.CLOSE and echo.close_code == 1000


async def test_a_message_is_pushed_with_its_author(
    letters, correspondence, serve, session, user, heard, until
):
    """`message_pusher`: the callback follows a relation, and its channel is a `str`."""
    module = letters("websockets")
    served = await serve(module.message_pusher, module.message_stream)
    channel = await Channel.objects.acreate(name="messages")
    await channel.asubscribe(user)
    headers = browser(served, session)
    pushed = await served.connect("/messages", headers=headers)
    await heard(served, "messages")
    streamed = await served.connect("/messages/stream", headers=headers)
    await until(lambda: served.engine.hub.channels["messages"] == 3)

    message = letters("models").Message(
        correspondence=correspondence, author=user, body="hello", channel=channel
    )
    await message.asave()

    assert await pushed.receive_json() == {"messages": {"author": "ada", "body": "hello"}}
    assert await streamed.receive_json() == {"messages": "hello"}
    await pushed.close()
    await streamed.close()


async def test_all_subscriptions_are_heard_and_changed_over_the_socket(
    letters, correspondence, serve, session, user, until, heard
):
    """`subscriptions`: what is subscribed arrives; unsubscribing and subscribing again
    work; another's channel is denied."""
    served = await serve(letters("websockets").subscriptions)
    ws = await served.connect("/subscriptions", headers=browser(served, session))
    name = correspondence.channel.name
    await heard(served, name)
    message = letters("models").Message(
        correspondence=correspondence, author=user, body="hello"
    )

    await message.asave()
    [document] = await ws.receive_json()
    assert document["fields"]["body"] == "hello"

    await ws.send_json({"action": "unsubscribe", "channel": name})
    await until(lambda: served.engine.hub.channels[name] == 1)
    await ws.send_json({"action": "subscribe", "channel": name})
    await until(lambda: served.engine.hub.channels[name] == 2)
    await message.apublish()
    assert (await ws.receive_json())[0]["pk"] == message.pk

    await ws.send_json({"action": "subscribe", "channel": "bob's"})
    assert await ws.receive_json() == {"error": "permission denied"}
    await ws.close()


async def test_the_shipped_handler_is_listed_by_its_name(letters, serve, session):
    """The same protocol, with replies, without code."""
    served = await serve(letters("shipped").subscriptions)
    ws = await served.connect("/subscriptions/", headers=browser(served, session))

    await ws.send_json({"action": "subscribe", "channel": "bob's"})

    assert await ws.receive_json() == {"error": "permission denied", "channel": "bob's"}
    await ws.close()


@pytest.mark.parametrize("method", ["signed_method", "async_method"])
async def test_a_method_of_ones_own_knows_its_tokens(
    letters, serve, settings, site, user, method
):
    """A custom `tokenauth_method`, plain or a coroutine function."""
    settings.REDIS_PUBSUB = site | {
        "tokenauth_method": f"docs.snippets.authentication.{method}"
    }
    served = await serve(letters("websockets").message_pusher)
    await (await Channel.objects.acreate(name="messages")).asubscribe(user)
    token = letters("authentication").make_token(user)

    ws = await served.connect("/messages", protocols=("bearer", token))
    assert ws.protocol == "bearer"
    await ws.close()
    with pytest.raises(WSServerHandshakeError) as refused:
        await served.connect("/messages", protocols=("bearer", token + "x"))

    assert refused.value.status == 403


async def test_publishing_by_hand_reaches_a_socket(letters, serve, session, user, heard):
    """`publish` from a thread's code, `apublish` from a coroutine."""
    served = await serve(letters("shipped").subscriptions)
    await (await Channel.objects.acreate(name="job")).asubscribe(user)
    ws = await served.connect("/subscriptions/", headers=browser(served, session))
    await heard(served, "job")

    await sync_to_async(letters("publishing").report)("job", 1, 2)
    position = await letters("publishing").areport("job", 2, 2)

    heard_frames = [await ws.receive_json(), await ws.receive_json()]
    assert [frame["payload"]["done"] for frame in heard_frames] == [1, 2]
    assert heard_frames[0]["event"] == "progress" and position.offset == 0
    await ws.close()


@pytest.mark.may_block(reason="imports and starts Django's WSGI application")
@pytest.mark.parametrize("name", ["deployment", "deployment_application"])
async def test_both_forms_of_deployment_serve_a_socket_and_a_page(
    letters, site, settings, http, name
):
    """Sockets by the handlers of the installed apps, every other URL by Django."""
    settings.ROOT_URLCONF = "tests.urls"
    application = letters(name).application
    runner = (
        web.AppRunner(application)
        if isinstance(application, web.Application)
        else await application()
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    try:
        ws = await http.ws_connect(f"{url}/echo")
        await ws.send_str("hello")
        assert await ws.receive_str() == "hello"
        page = await http.get(f"{url}/admin/login/")
        assert page.status == 200
    finally:
        await runner.cleanup()


@pytest.fixture
async def http():
    import aiohttp

    async with aiohttp.ClientSession() as session:
        yield session


async def test_1_0s_related_name_can_be_kept(letters, user):
    """A `channel` of one's own with the old name; the new name is the default."""
    models = letters("models")
    row = await models.OldName.objects.acreate()

    assert await Channel.objects.aget(publishable_oldnames=row) == row.channel
    assert not await Channel.objects.filter(
        publishable_letters_correspondences__participants=user
    ).aexists()


def test_the_new_related_name_makes_a_migration_without_sql(letters):
    """from-1.0.rst: `makemigrations` sees the name; the database does not."""
    from django.db import connection, models

    old = models.ForeignKey(
        Channel, on_delete=models.CASCADE, related_name="publishable_messages"
    )
    model = letters("models").Message
    new = model._meta.get_field("channel")
    old.set_attributes_from_name("channel")
    old.model = model

    assert connection.schema_editor()._field_should_be_altered(old, new) is False
