"""The Python library against real servers, in JSON and in Protobuf."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from centrifuge import ReplyError, StreamPosition

from .clients import Client, channel_in, user_name

pytestmark = pytest.mark.may_block(reason="starts and stops server processes")

FORMS = {"json": False, "protobuf": True}


@pytest.fixture
async def open_client(server_url):
    """Make clients that end with the test: ``await open_client("json", token=…)``."""
    async with AsyncExitStack() as ending:

        def new(form: str, server: str = "main", **options) -> Client:
            client = Client(server_url(server), FORMS[form], **options)
            ending.push_async_callback(client.library.disconnect)
            return client

        yield new


@pytest.fixture(params=FORMS)
def new_client(request, open_client):
    """Make a client, not yet connected, of the form the test runs with."""
    return lambda **options: open_client(request.param, **options)


@pytest.fixture
def connect(new_client):
    return lambda **options: new_client(**options).connect()


@pytest.fixture
def connect_as(connect, backstage):
    """A client of a new user, connected with a token."""

    async def connect_as(user: str, **options) -> Client:
        return await connect(token=await backstage("token", user=user), **options)

    return connect_as


async def refused(call) -> int:
    """The code with which a call fails."""
    with pytest.raises(ReplyError) as refusal:
        await call
    return refusal.value.code


# -- connections -------------------------------------------------------------------------


async def test_an_anonymous_client_connects_and_is_nobody(connect):
    """The connect reply has what the library wants of it."""
    client = await connect()

    connected = await client.events.until("connected")

    assert len(connected.client) == 32 and connected.version
    assert await client.call("who") is None


async def test_a_token_says_who_a_client_is(connect, backstage):
    """An expired one is replaced before anybody notices."""
    user = user_name()
    expired = await backstage("token", user=user, ttl_s=-1)

    async def get_token() -> str:
        return await backstage("token", user=user)

    client = await connect(token=expired, get_token=get_token)

    assert await client.call("who") == user


async def test_connections_outlive_their_pings(open_client):
    """Pings and pongs keep connections of both forms open."""
    options = {"max_server_ping_delay": 1.0}
    clients = [await open_client(form, "brisk", **options).connect() for form in FORMS]

    await asyncio.gather(*(client.call("outlive_pings") for client in clients))

    assert [len(client.events.of("connecting")) for client in clients] == [1, 1]


async def test_tokens_that_end_are_renewed(open_client, backstage):
    """Of connections and of subscriptions, in both forms: nothing is interrupted."""

    async def renew(form: str) -> None:
        user, channel = user_name(), channel_in("secret")
        asked: list[str] = []
        enough = asyncio.Event()

        async def token() -> str:
            asked.append("connection")
            return await backstage("token", user=user, ttl_s=2)

        async def subscription_token(channel: str) -> str:
            asked.append("subscription")
            if min(asked.count("connection"), asked.count("subscription")) >= 3:
                enough.set()
            return await backstage(
                "subscription_token", channel=channel, user=user, ttl_s=2
            )

        client = await open_client(form, get_token=token).connect()
        sub = await client.subscribe(channel, get_token=subscription_token)
        async with asyncio.timeout(15):
            await enough.wait()
        assert await client.call("who") == user
        assert len(client.events.of("connecting")) == 1
        assert len(sub.events.of("subscribing")) == 1
        assert client.events.of("error") == sub.events.of("error") == []

    await asyncio.gather(*(renew(form) for form in FORMS))


async def test_tokens_that_are_not_renewed_end(open_client, backstage):
    """A client that cannot renew its token is let go after the grace period, and is not
    let in again; a subscription's end leaves the connection."""

    async def let_go(form: str) -> None:
        token = await backstage("token", user=user_name(), ttl_s=4)
        client = await open_client(form, token=token).connect()
        assert (await client.events.until("connecting", 2)).code == 3005
        await client.events.until("disconnected")

    async def end_sub(form: str) -> None:
        channel = channel_in("secret")
        token = await backstage("subscription_token", channel=channel, ttl_s=4)
        client = await open_client(form).connect()
        sub = await client.subscribe(channel, token=token)
        assert (await sub.events.until("subscribing", 2)).code == 2501
        await sub.events.until("unsubscribed")
        assert await client.call("echo", 1) == 1

    await asyncio.gather(*(each(form) for form in FORMS for each in (let_go, end_sub)))


async def test_a_bad_token_is_refused_for_good(new_client):
    client = new_client(token="a.bad.token")

    await client.library.connect()

    ended = await client.events.until("disconnected")
    assert (ended.code, ended.reason) == (3500, "invalid token")


async def test_a_user_is_disconnected_for_good(connect_as, backstage):
    user = user_name()
    client = await connect_as(user)

    await backstage("disconnect", user=user)

    ended = await client.events.until("disconnected")
    assert (ended.code, ended.reason) == (3503, "force disconnect")


async def test_a_single_connection_is_told_to_come_back_and_does(connect, backstage):
    client = await connect()

    await backstage("disconnect", client=client.id, code="FORCE_RECONNECT")

    assert (await client.events.until("connected", 2)).client != client.id
    assert (await client.events.until("connecting", 2)).code == 3011


async def test_a_user_who_is_no_longer_active_is_shown_out(connect_as, backstage):
    user = user_name()
    client = await connect_as(user)

    await backstage("deactivate", user=user)

    assert (await client.events.until("disconnected")).code == 3507


async def test_a_user_hears_his_personal_channel_without_asking(connect_as, backstage):
    """Also what was said while he was away: once, and in order."""
    user = user_name()
    channel = f"user:{await backstage('user', name=user)}"
    client = await connect_as(user)
    assert (await client.events.until("subscribed")).channel == channel

    await backstage("publish", channel=channel, payloads=["there"])
    await client.events.until("publication")
    await client.library.disconnect()
    await backstage("publish", channel=channel, payloads=["away", "still away"])
    await client.connect()
    await client.events.until("publication", 3)
    await backstage("publish", channel=channel, payloads=["back"])
    await client.events.until("publication", 4)

    assert client.events.payloads == ["there", "away", "still away", "back"]
    again = await client.events.until("subscribed", 2)
    assert again.was_recovering and again.recovered


# -- calls -------------------------------------------------------------------------------


async def test_calls_bring_back_what_the_procedure_returns(connect):
    client = await connect()
    values = [None, 0, -1.5, "", "Grüße \u2028 \n", [], {}, {"a": [1, None]}, "ü" * 5_000]

    answers = await asyncio.gather(*(client.call("echo", value) for value in values))

    assert answers == values


async def test_calls_that_fail_have_their_code(connect):
    """And the connection stays."""
    client = await connect()

    assert await client.call("add", {"a": 1, "b": 2}) == 3
    assert await refused(client.call("add", {"a": 1, "b": "two"})) == 107
    assert await refused(client.call("refuse")) == 1001
    assert await refused(client.call("forbid")) == 103
    assert await refused(client.call("fail")) == 100
    assert await refused(client.call("unheard_of")) == 104


async def test_a_slow_call_does_not_hold_up_the_next(connect):
    client = await connect()
    door = channel_in("door")

    slow = asyncio.create_task(client.call("wait_at_door", door))
    await client.call("open_door", door)

    assert await slow == "through"


# -- subscriptions -----------------------------------------------------------------------


async def test_what_is_published_arrives_in_order_with_offsets(connect, backstage):
    channel, client = channel_in("open"), await connect()
    sub = await client.subscribe(channel)

    await backstage("publish", channel=channel, payloads=[*range(1, 21)])
    await sub.events.until("publication", 20)

    assert sub.events.payloads == [*range(1, 21)]
    assert [each.pub.offset for each in sub.events.of("publication")] == [*range(1, 21)]


async def test_a_client_hears_what_it_publishes(connect_as, connect, backstage):
    """And others are told who said it."""
    user, channel = user_name(), channel_in("plain")
    token = await backstage("token", user=user, info={"colour": "green"})
    speaker = await connect(token=token)
    sub = await speaker.subscribe(channel)

    await speaker.publish(channel, {"hello": "world"})

    info = (await sub.events.until("publication")).pub.info
    assert sub.events.payloads == [{"hello": "world"}]
    assert (info.client, info.user) == (speaker.id, await backstage("user", name=user))
    assert speaker.unpack(info.conn_info) == {"colour": "green"}


async def test_many_subscriptions_are_asked_for_at_once(new_client):
    client = new_client()
    subs = [client.new_sub(channel_in("open")) for _ in range(30)]
    for sub in subs:
        await sub.library.subscribe()

    await client.connect()
    await asyncio.gather(*(sub.events.until("subscribed") for sub in subs))
    await asyncio.gather(*(client.publish(sub.channel, sub.channel) for sub in subs))
    await asyncio.gather(*(sub.events.until("publication") for sub in subs))

    assert [sub.events.payloads for sub in subs] == [[sub.channel] for sub in subs]


@pytest.mark.parametrize("namespace", ["secret", "members"])
async def test_a_channel_that_a_client_may_not_hear_is_refused(connect, namespace):
    channel, client = channel_in(namespace), await connect()
    sub = client.new_sub(channel)

    await sub.library.subscribe()

    ended = await sub.events.until("unsubscribed")
    assert (ended.code, ended.reason) == (103, "permission denied")
    assert await refused(client.publish(channel, 1)) == 103
    assert await refused(client.history(channel, limit=1)) == 103
    assert await refused(client.library.presence(channel)) == 103


async def test_a_user_hears_what_his_row_lets_him_and_only_that_long(connect_as, backstage):
    user, channel = user_name(), channel_in("rows")
    await backstage("enrol", user=user, channel=channel)
    sub = await (await connect_as(user)).subscribe(channel)

    await backstage("publish", channel=channel, payloads=["for members"])
    await sub.events.until("publication")
    await backstage("strike_off", user=user, channel=channel)

    assert (await sub.events.until("unsubscribed")).code == 2000
    assert sub.events.payloads == ["for members"]


async def test_the_server_unsubscribes_and_the_client_may_come_again(connect, backstage):
    channel, client = channel_in("open"), await connect()
    sub = await client.subscribe(channel)

    await backstage("unsubscribe", channel=channel, client=client.id)
    ended = await sub.events.until("unsubscribed")
    assert (ended.code, ended.reason) == (2000, "server unsubscribe")
    await sub.library.subscribe()
    await sub.events.until("subscribed", 2)
    await client.publish(channel, "again")
    await sub.events.until("publication")

    assert sub.events.payloads == ["again"]


async def test_nothing_comes_after_an_unsubscribe(connect):
    channel, client = channel_in("plain"), await connect()
    sub = await client.subscribe(channel)

    await sub.library.unsubscribe()
    await client.publish(channel, "unheard")
    await sub.library.subscribe()
    await sub.events.until("subscribed", 2)
    await client.publish(channel, "heard")
    await sub.events.until("publication")

    assert sub.events.payloads == ["heard"]


async def test_a_subscription_token_lets_a_client_hear_one_channel(connect, backstage):
    """An expired one is replaced; one of another channel ends the connection."""
    channel, client = channel_in("secret"), await connect()

    async def get_token(channel: str) -> str:
        return await backstage("subscription_token", channel=channel)

    expired = await backstage("subscription_token", channel=channel, ttl_s=-1)
    sub = await client.subscribe(channel, token=expired, get_token=get_token)
    await backstage("publish", channel=channel, payloads=["secret"])
    await sub.events.until("publication")
    assert sub.events.payloads == ["secret"]

    other = client.new_sub(channel_in("secret"), token=await get_token(channel))
    await other.library.subscribe()
    assert (await client.events.until("disconnected")).code == 3500


# -- history and presence ----------------------------------------------------------------


async def test_history_answers_every_way_of_asking(connect, backstage):
    channel, client = channel_in("open"), await connect()
    await backstage("publish", channel=channel, payloads=[1, 2, 3, 4, 5, 6])

    values, top = await client.history(channel)
    assert (values, top.offset) == ([], 6) and top.epoch
    since = StreamPosition(4, top.epoch)
    assert (await client.history(channel, limit=-1))[0] == [1, 2, 3, 4, 5, 6]
    assert (await client.history(channel, limit=2))[0] == [1, 2]
    assert (await client.history(channel, limit=2, reverse=True))[0] == [6, 5]
    assert (await client.history(channel, limit=-1, since=since))[0] == [5, 6]
    assert (await client.history(channel, limit=2, since=since, reverse=True))[0] == [3, 2]
    assert [p.offset for p in (await client.history(channel, limit=2))[1].publications] == [
        1,
        2,
    ]
    another = StreamPosition(1, "another")
    assert await refused(client.history(channel, limit=1, since=another)) == 112
    assert await refused(client.history(channel_in("plain"), limit=1)) == 108


async def test_presence_tells_who_is_there_and_who_comes_and_goes(connect, backstage):
    user, channel = user_name(), channel_in("open")
    pk = await backstage("user", name=user)
    watching, visiting = (
        await connect(),
        await connect(token=await backstage("token", user=user)),
    )
    watcher = await watching.subscribe(channel)
    await watcher.events.until("join")
    token = await backstage(
        "subscription_token", channel=channel, user=user, info={"seat": 7}
    )

    await visiting.subscribe(channel, token=token)
    came = (await watcher.events.until("join", 2)).info
    present = (await watcher.library.presence()).clients
    counts = await watcher.library.presence_stats()
    await visiting.library.disconnect()
    left = (await watcher.events.until("leave")).info

    assert (came.client, came.user) == (left.client, left.user) == (visiting.id, pk)
    assert watching.unpack(came.chan_info) == {"seat": 7}
    assert {each.client: each.user for each in present.values()} == {
        watching.id: "",
        visiting.id: pk,
    }
    assert (counts.num_clients, counts.num_users) == (2, 2)
    assert (await watcher.library.presence_stats()).num_clients == 1
    assert await refused(watching.library.presence(channel_in("plain"))) == 108


# -- recovery ----------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["open", "rows"])
async def test_what_was_missed_comes_once_and_in_order(connect_as, backstage, namespace):
    """Where the client asks for it, and where the server forces it."""
    user, channel = user_name(), channel_in(namespace)
    await backstage("enrol", user=user, channel=channel)
    client = await connect_as(user)
    sub = await client.subscribe(channel, recoverable=namespace == "open")

    await backstage("publish", channel=channel, payloads=[1, 2])
    await sub.events.until("publication", 2)
    await client.library.disconnect()
    await backstage("publish", channel=channel, payloads=[3, 4, 5])
    await client.connect()
    again = await sub.events.until("subscribed", 2)
    await backstage("publish", channel=channel, payloads=[6])
    await sub.events.until("publication", 6)

    assert sub.events.payloads == [1, 2, 3, 4, 5, 6]
    assert again.was_recovering and again.recovered and again.recoverable


async def test_a_history_that_begins_anew_makes_the_client_subscribe_again(
    connect, backstage
):
    """Nothing of the new history is delivered as if it went on from the old."""
    channel, client = channel_in("open"), await connect()
    sub = await client.subscribe(channel, recoverable=True)

    await backstage("publish", channel=channel, payloads=[1, 2])
    await sub.events.until("publication", 2)
    await backstage("forget", channel=channel)
    await backstage("publish", channel=channel, payloads=["new"])
    again = await sub.events.until("subscribed", 2)
    await backstage("publish", channel=channel, payloads=["newer"])
    await sub.events.until("publication", 3)

    assert (await sub.events.until("subscribing", 2)).code == 2500
    assert again.was_recovering and not again.recovered
    assert sub.events.payloads == [1, 2, "newer"]
    assert len(client.events.of("connecting")) == 1


async def test_a_state_that_is_loaded_goes_with_its_position(connect, backstage):
    """What comes between the state and the subscription is delivered; a position that is
    no more makes the client load its state again."""
    channel, client = channel_in("open"), await connect()
    await backstage("publish", channel=channel, payloads=[1, 2])
    loaded = []

    async def get_state(channel: str) -> StreamPosition:
        _, top = await client.history(channel)
        loaded.append(top.offset)
        if len(loaded) == 1:
            await backstage("publish", channel=channel, payloads=[3])
        return StreamPosition(top.offset, top.epoch)

    sub = await client.subscribe(channel, get_state=get_state)
    await sub.events.until("publication")
    await backstage("forget", channel=channel)
    await backstage("publish", channel=channel, payloads=["new"])
    await sub.events.until("subscribed", 2)
    await backstage("publish", channel=channel, payloads=["newer"])
    await sub.events.until("publication", 2)

    assert loaded == [2, 1]
    assert sub.events.payloads == [3, "newer"]


async def test_a_server_that_is_killed_and_restarted_has_lost_nothing(
    open_client, backstage
):
    """Messages that were published meanwhile arrive once and in order, in both forms, on
    subscriptions and on the personal channel."""
    user, channel = user_name(), channel_in("open")
    personal = f"user:{await backstage('user', name=user)}"
    token = await backstage("token", user=user)
    clients = [await open_client(form, "other", token=token).connect() for form in FORMS]
    subs = [await client.subscribe(channel, recoverable=True) for client in clients]
    ears = [*subs, *clients]

    async def all_until(name: str, times: int) -> list:
        return await asyncio.gather(*(each.events.until(name, times) for each in ears))

    for where in (channel, personal):
        await backstage("publish", channel=where, payloads=[1, 2])
    await all_until("publication", 2)
    await backstage("kill", name="other")
    await asyncio.gather(*(client.events.until("connecting", 2) for client in clients))
    for where in (channel, personal):
        await backstage("publish", channel=where, payloads=[3, 4, 5])
    await backstage("restart", name="other")
    again = await all_until("subscribed", 2)
    for where in (channel, personal):
        await backstage("publish", channel=where, payloads=[6])
    await all_until("publication", 6)

    assert [each.events.payloads for each in ears] == [[1, 2, 3, 4, 5, 6]] * len(ears)
    assert all(each.was_recovering and each.recovered for each in again)


async def test_a_broken_connection_to_redis_costs_no_message(open_client, backstage):
    """Clients of both forms get what was published around it, once and in order."""
    channel = channel_in("open")
    clients = [await open_client(form).connect() for form in FORMS]
    subs = [await client.subscribe(channel, recoverable=True) for client in clients]

    for number in range(1, 10, 2):
        await backstage("publish", channel=channel, payloads=[number])
        await backstage("cut")
        await backstage("publish", channel=channel, payloads=[number + 1])
    await asyncio.gather(*(sub.events.until("publication", 10) for sub in subs))

    assert [sub.events.payloads for sub in subs] == [[*range(1, 11)]] * 2
    assert [len(client.events.of("connecting")) for client in clients] == [1, 1]


async def test_a_user_is_disconnected_from_every_worker(open_client, backstage):
    """However many connections he has, in whichever process."""
    user = user_name()
    token = await backstage("token", user=user)
    clients = await asyncio.gather(
        *(
            open_client(form, "pair", token=token).connect()
            for form in FORMS
            for _ in "1234"
        )
    )

    await backstage("disconnect", user=user)

    ended = await asyncio.gather(*(each.events.until("disconnected") for each in clients))
    assert {each.code for each in ended} == {3503}


async def test_clients_of_both_forms_hear_each_other(open_client, backstage):
    """And those of another process."""
    channel = channel_in("open")
    clients = [
        await open_client(form, server).connect()
        for form in FORMS
        for server in ("main", "other")
    ]
    subs = [await client.subscribe(channel) for client in clients]

    for number, client in enumerate(clients):
        await client.publish(channel, {"from": number})
    await asyncio.gather(*(sub.events.until("publication", 4) for sub in subs))

    expected = [{"from": number} for number in range(4)]
    assert [sub.events.payloads for sub in subs] == [expected] * 4
