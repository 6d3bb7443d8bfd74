"""Who may hear what, when things change in an unlucky moment."""

from __future__ import annotations

import asyncio

import pytest
from django.db import OperationalError

from redis_pubsub import adisconnect, arefresh
from redis_pubsub.addresses import personal_channel
from redis_pubsub.auth import Standing
from redis_pubsub.auth.tokens import connection_token, subscription_token
from redis_pubsub.contrib.live import connecting
from redis_pubsub.engine import CONTROL_CHANNEL
from redis_pubsub.models import Channel
from redis_pubsub.web.admission import Admission
from redis_pubsub.web.connections import Connections

pytestmark = pytest.mark.django_db(transaction=True)
ANSWERS = {}


def ask(*, user, channel, action, **kwargs):
    """An ``authorize_method`` that a test can change, and break."""
    answer = ANSWERS.get(channel)
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.fixture
def hooked(serve_live):
    ANSWERS.clear()
    return serve_live(authorize_method=f"{__name__}.ask")


async def test_a_rule_for_all_channels_is_none_for_personal_ones(serve_live, user):
    """A site that opens everything has not opened its users' mail; one that says so has."""
    everything = {"subscribe": "authenticated", "publish": "authenticated"}
    live = await serve_live(channels={"*": everything})
    ada, mine = await live.connect(user), personal_channel(str(user.pk))
    other = personal_channel("4711")

    assert await ada.error("subscribe", channel=other) == 103
    assert await ada.error("publish", channel=other, data=1) == 103
    assert await ada.error("subscribe", channel=mine) == 105
    await ada.subscribe("room:1")

    open_to_all = await serve_live(channels={"user:*": everything})
    await (await open_to_all.connect(user)).subscribe(other)


async def ask_in_vain(*, channel, **kwargs):
    """An ``authorize_method`` whose answer is given up, or never comes."""
    if channel == "given up":
        raise asyncio.CancelledError
    await asyncio.Event().wait()


async def test_an_answer_that_is_given_up_ends_the_connection(serve_live, caplog):
    """Something that the site waits for was cancelled: the client is told, and comes back;
    it does not wait for ever for a channel that it cannot ask for again."""
    live = await serve_live(authorize_method=f"{__name__}.ask_in_vain")
    client = await live.connect()

    await client.say({"id": 7, "subscribe": {"channel": "given up"}})

    assert await client.ended() == (3004, "internal server error")
    assert live.engine.metrics["live_errors"] == 1
    assert "CancelledError" in caplog.text


async def test_an_answer_that_never_comes_ends_with_the_process(serve_live, until):
    """Nothing of the site's is left running behind what is closed under it."""
    live = await serve_live(authorize_method=f"{__name__}.ask_in_vain")
    client = await live.connect()
    await client.say({"id": 7, "subscribe": {"channel": "never"}})
    (connection,) = live.connections
    await until(lambda: connection.line.is_busy)

    await live.engine.part(Connections).drain(0.2)

    assert (await client.ended())[0] == 3001
    await until(lambda: not len(live.engine.part(Admission)))
    assert live.engine.metrics["live_errors"] == 0


async def test_a_database_that_is_away_is_no_refusal(hooked):
    """The client tries again; what it has, it keeps."""
    live = await hooked
    client = await live.connect()
    ANSWERS["a"] = ANSWERS["b"] = True
    await client.subscribe("a")
    ANSWERS["a"] = ANSWERS["b"] = OperationalError("away")

    reply = await client.call("subscribe", channel="b")

    assert reply["error"] == {
        "code": 100,
        "message": "internal server error",
        "temporary": True,
    }
    assert "a" in live.engine.hub.channels


async def test_a_refresh_lost_with_the_connection_to_redis_is_made_up_for(hooked, user):
    """After a gap of the control channel everything is asked anew."""
    live = await hooked
    ANSWERS["a"] = True
    client = await live.connect(user)
    await client.subscribe("a")
    ANSWERS["a"] = False

    live.engine.control.position_lost(CONTROL_CHANNEL)

    assert (await client.push("unsubscribe", "a"))["code"] == 2000


async def test_a_row_counts_again_once_the_method_leaves_it_to_it(hooked, user, until):
    """Granted by the method first, by the row later: the row's end is the end."""
    live = await hooked
    channel = await Channel.objects.acreate(name="a")
    subscription = await channel.asubscribe(user)
    ANSWERS["a"] = True
    client = await live.connect(user)
    await client.subscribe("a")
    (connection,) = live.connections
    ANSWERS["a"] = None
    await arefresh(user)
    await until(lambda: connection.session.channels["a"].by_row)

    subscription.active = False
    await subscription.asave()

    assert (await client.push("unsubscribe", "a"))["code"] == 2000
    assert live.engine.metrics["refresh_errors"] == 0


async def test_a_refresh_asks_the_method_about_channels_of_a_token_too(
    settings, hooked, user
):
    """Its no beats a token, at a refresh as at the beginning."""
    live = await hooked
    token = subscription_token(user, "a")
    client = await live.connect(user)
    await client.subscribe("a", token=token)
    await arefresh(user)
    assert await client.silent() == []
    ANSWERS["a"] = False

    await arefresh(user)

    assert (await client.push("unsubscribe", "a"))["code"] == 2000


ASKED, MAY_ANSWER = asyncio.Event(), asyncio.Event()


async def slow_publish(*, action, **kwargs):
    if action == "publish":
        ASKED.set()
        await MAY_ANSWER.wait()
    return True


async def test_who_is_sent_away_while_the_method_is_asked_publishes_nothing(
    serve_live, user, until
):
    """What was allowed is not any more when it is carried out."""
    live = await serve_live(authorize_method=f"{__name__}.slow_publish")
    for event in (ASKED, MAY_ANSWER):
        event.clear()
    ada, nobody = await live.connect(user), await live.connect()
    await nobody.subscribe("a")
    (of_ada,) = live.server.of_user(str(user.pk))

    asking = asyncio.create_task(ada.call("publish", channel="a", data="late"))
    await ASKED.wait()
    await adisconnect(user)
    await until(lambda: of_ada.session.ending)
    MAY_ANSWER.set()
    await until(lambda: of_ada not in live.engine.part(Connections))

    await live.publish("a", "later")
    assert (await nobody.push("pub", "a"))["data"] == "later"
    with pytest.raises(AssertionError, match="3503"):
        await asking


def by_token(*, action, token, **kwargs):
    """A hook with tokens of its own: it knows no others."""
    return token == "mine" if token else None


async def test_the_method_is_not_shown_this_sites_own_tokens(serve_live, user):
    """It would take them for bad ones of its own; of others it decides, also at a
    refresh. With such a token nobody's client begins at a position all the same."""
    live = await serve_live(authorize_method=f"{__name__}.by_token")
    await Channel.objects.acreate(name="rows")
    client, nobody = await live.connect(user), await live.connect()

    await client.subscribe("rows", token=subscription_token(user, "rows"))
    await client.subscribe("other", token="mine")
    assert await client.error("subscribe", channel="bad", token="bad") == 103
    token = subscription_token(None, "rows")
    assert (await nobody.subscribe("rows", token=token))["epoch"]

    await arefresh(user)
    assert await client.silent() == []


async def test_who_is_disconnected_while_he_is_let_in_does_not_stay(
    live, user, until, monkeypatch
):
    """Between the look at who he is and the first word."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    identify = connecting.identify

    async def slowly(*args):
        found = await identify(*args)
        begun.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(connecting, "identify", slowly)
    client = await live.open()
    asking = asyncio.create_task(client.call("connect", token=connection_token(user)))
    await begun.wait()
    await adisconnect(user)
    await until(lambda: live.server.ended_since(0, Standing(user)))
    go_on.set()
    await asyncio.wait([asking])

    assert asking.exception() is not None or "error" in asking.result()
    assert client.ws.close_code == 3503
    assert not live.connections
