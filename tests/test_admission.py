"""Letting listeners in at a position, while messages arrive."""

from __future__ import annotations

import asyncio
import random
import uuid

import pytest

from redis_pubsub.broker import Read, open_broker
from redis_pubsub.exceptions import BrokerUnavailable, PositionLost
from redis_pubsub.hub import Hub
from redis_pubsub.hub import admission as admission_module
from redis_pubsub.messages import Draft, Position, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions, ChannelOptions

KEPT = ChannelOptions(history_size=50, history_ttl_s=60)


class Listener:
    framing = None
    connection_id = ""

    def __init__(self):
        self.payloads = []
        self.lost = []

    def offer(self, messages):
        self.payloads += [message.payload for message in messages]

    def position_lost(self, channel):
        self.lost.append(channel)


@pytest.fixture(params=["redis", "memory"])
def url(request):
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
async def hub(url, prefix):
    metrics = Metrics()
    hub = Hub(open_broker(BrokerOptions(url=url, prefix=prefix), metrics), metrics)
    await hub.start()
    yield hub
    await hub.close()


async def say(hub, *payloads, channel="room", options=KEPT):
    drafts = [Draft(channel, new_header(), b"%d" % n, options) for n in payloads]
    return await hub.broker.publish(drafts)


async def enter(hub, listener, since=None, channel="room", **how):
    """As a session does; what it missed comes first."""
    async with hub.admission(channel) as admission:
        await admission.prepare(since, **how)
        past = admission.admit(listener)
        listener.payloads += [message.payload for message in past.missed]
    return past


async def test_who_comes_back_gets_what_was_missed_then_what_is_live(hub, until):
    """P-18: everything after the position, once, in order."""
    (first, *_) = await say(hub, 1, 2, 3)
    listener = Listener()

    past = await enter(hub, listener, first)
    await say(hub, 4)

    await until(lambda: len(listener.payloads) == 3)
    assert listener.payloads == [2, 3, 4]
    assert past.is_recovered and past.position == Position(first.epoch, 3)


async def test_who_comes_new_is_told_the_top(hub, until):
    """A position is handed out before the first message, and that continues it."""
    listener = Listener()

    past = await enter(hub, listener, begins=True)
    (position,) = await say(hub, 1)

    assert past.position == Position(position.epoch, 0) and not past.is_recovered
    await until(lambda: listener.payloads == [1])


async def test_a_channel_without_history_has_no_position(hub, until):
    """Nothing is begun in Redis for it; what is said still arrives."""
    listener = Listener()

    past = await enter(hub, listener)
    await say(hub, 1, options=ChannelOptions())

    assert past.position is None
    await until(lambda: listener.payloads == [1])
    (history,) = await hub.broker.read([Read("room", begins=False)])
    assert history.position == Position("", 0)


@pytest.mark.parametrize(
    "since",
    [
        pytest.param(lambda top: Position("another", 60), id="another epoch"),
        pytest.param(lambda top: Position(top.epoch, 5), id="no longer kept"),
        pytest.param(lambda top: Position(top.epoch, 61), id="ahead of the top"),
        pytest.param(lambda top: Position("_", 60), id="an epoch nobody has"),
    ],
)
async def test_what_cannot_be_proven_is_not_called_recovered(hub, since):
    """Not recovered: no messages, and the top to go on from."""
    *_, top = await say(hub, *range(60))

    past = await enter(hub, Listener(), since(top))

    assert not past.is_recovered and past.missed == []
    assert past.position == top


async def test_a_client_that_knows_no_epoch_takes_any(hub):
    """The protocol: an absent epoch means any; an offset of 0 is before the first."""
    *_, top = await say(hub, 1, 2)

    past = await enter(hub, Listener(), Position("", 0))

    assert past.is_recovered and len(past.missed) == 2 and past.position == top


async def test_more_than_the_limit_is_not_recovered(prefix):
    """A read cut by the limit proves nothing."""
    metrics = Metrics()
    broker = open_broker(BrokerOptions(url=f"memory://{uuid.uuid4().hex}"), metrics)
    hub = Hub(broker, metrics, recovery_messages=5)
    await hub.start()
    first, *_ = await say(hub, *range(10))

    all_of_it = await enter(hub, Listener(), first)
    the_rest = await enter(hub, Listener(), Position(first.epoch, 5))

    assert not all_of_it.is_recovered
    assert the_rest.is_recovered and len(the_rest.missed) == 5
    await hub.close()


async def test_a_storm_reads_each_channel_once(hub):
    """A thousand come back at once: one read; and those who come a moment later read
    nothing at all."""
    first, *_ = await say(hub, *range(20))
    listeners = [Listener() for _ in range(1_000)]

    await asyncio.gather(*(enter(hub, each, first) for each in listeners))
    await asyncio.gather(*(enter(hub, Listener(), first) for _ in range(100)))

    assert all(each.payloads == list(range(1, 20)) for each in listeners)
    assert hub.metrics["history_reads"] == 1


async def test_those_who_missed_more_than_the_first_share_a_second_read(hub):
    """The log grows backwards with one more read, not one for each."""
    first, second, third, *_ = await say(hub, *range(10))

    late = await enter(hub, Listener(), third)
    early = await asyncio.gather(
        *(enter(hub, Listener(), each) for each in [first, second] * 50)
    )

    assert len(late.missed) == 7
    assert {len(past.missed) for past in early} == {9, 8}
    assert hub.metrics["history_reads"] == 2


async def test_nothing_is_missed_or_repeated_while_messages_flow(hub, until):
    """Listeners come and go at random offsets under load; each hears every message once,
    in order, from the position it came with."""
    chance = random.Random(7)
    total = 600
    (begin,) = await say(hub, 0)
    is_over = asyncio.Event()

    async def publish():
        for n in range(1, total):
            await say(hub, n)
            if chance.random() < 0.2:
                await say(hub, -1, options=ChannelOptions())
            if chance.random() < 0.3:
                await asyncio.sleep(0.001)
        is_over.set()

    async def stay(listener):
        seen = 0
        while not is_over.is_set():
            known = [n for n in listener.payloads if n >= 0]
            seen = known[-1] if known else 0
            await enter(hub, listener, Position(begin.epoch, seen + 1))
            await asyncio.sleep(chance.random() * 0.02)
            hub.leave("room", listener)
        seen = [n for n in listener.payloads if n >= 0][-1]
        await enter(hub, listener, Position(begin.epoch, seen + 1))

    listeners = [Listener() for _ in range(20)]
    await asyncio.gather(publish(), *(stay(each) for each in listeners))

    await until(lambda: all(total - 1 in each.payloads for each in listeners))
    for listener in listeners:
        assert [n for n in listener.payloads if n >= 0] == list(range(1, total))


async def test_a_hole_on_the_way_in_is_not_passed_over(hub, until):
    """Messages lost between the read and the admission: prepare again."""
    await say(hub, 1)
    listener = Listener()
    async with hub.admission("room") as admission:
        await admission.prepare()
        hub.deliver("room", b'1:1:another:{"id":"x"}\n9')
        await until(lambda: hub.metrics["positions_lost"])

        with pytest.raises(PositionLost):
            admission.admit(listener)

        await admission.prepare()
        admission.admit(listener)
    await say(hub, 2)
    await until(lambda: listener.payloads == [2])


async def test_a_first_message_that_skips_some_is_a_lost_position(hub, until):
    """What was read is the position; what arrives must continue it."""
    *_, top = await say(hub, 1, 2)
    listener = Listener()
    await enter(hub, listener)

    hub.deliver("room", b'1:%d:%s:{"id":"x"}\n9' % (top.offset + 2, top.epoch.encode()))

    await until(lambda: listener.lost == ["room"])


async def test_a_stream_that_cannot_be_read_says_so(hub, monkeypatch):
    """Whoever waits is told; the next attempt reads again."""
    await say(hub, 1)
    read = hub.broker.read

    async def down(reads):
        raise BrokerUnavailable("down")

    monkeypatch.setattr(hub.broker, "read", down)
    waiting = [enter(hub, Listener(), Position("", 0)) for _ in range(3)]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    monkeypatch.setattr(hub.broker, "read", read)

    assert [type(answer) for answer in answers] == [BrokerUnavailable] * 3
    past = await enter(hub, Listener(), Position("", 0))
    assert len(past.missed) == 1


async def test_an_admission_leaves_nothing_behind(hub, monkeypatch, until):
    """Given up or done, its log is forgotten and the channel left."""
    monkeypatch.setattr(admission_module, "LOG_KEPT_S", 0.01)
    monkeypatch.setattr("redis_pubsub.hub.hub.LEAVE_DELAY_S", 0.01)
    listener = Listener()
    await enter(hub, listener)
    async with hub.admission("room"):
        pass
    hub.leave("room", listener)

    await until(lambda: len(hub) == 0)


async def test_closing_the_hub_ends_every_timer(url, prefix):
    """Also with messages waiting to be flushed."""
    metrics = Metrics()
    hub = Hub(open_broker(BrokerOptions(url=url, prefix=prefix), metrics), metrics)
    await hub.start()
    for channel in ("a", "b"):
        await enter(hub, Listener(), channel=channel)
    feeds = list(hub._feeds.values())
    hub.deliver("a", b'1:0::{"id":"x"}\n1')

    await hub.close()

    assert len(feeds) == 2 and all(feed.forgetting.cancelled() for feed in feeds)


async def test_several_wait_once_for_a_broker_that_is_gone(prefix):
    """They were asked for together, and fail together: who enters a hundred channels is
    not kept waiting a hundred times as long."""
    metrics = Metrics()
    options = BrokerOptions(
        url="unix:///nowhere/redis.sock", prefix=prefix, subscribe_timeout_s=0.1
    )
    hub = Hub(open_broker(options, metrics), metrics)
    await hub.start()
    admissions = [hub.admission(f"room:{number}") for number in range(5)]
    for admission in admissions:
        admission.begin()

    for admission in admissions:
        with pytest.raises(BrokerUnavailable):
            await admission.open()

    assert metrics["subscribe_failed"] == 5
    await hub.close()


async def test_who_waits_for_a_channel_that_is_left_is_not_cancelled(prefix, monkeypatch):
    """The listener gave up, and its channel with it: another who waits has an error of
    which he is told, and goes on."""
    monkeypatch.setattr("redis_pubsub.hub.hub.LEAVE_DELAY_S", 0.01)
    metrics = Metrics()
    options = BrokerOptions(url="unix:///nowhere/redis.sock", prefix=prefix)
    hub = Hub(open_broker(options, metrics), metrics)
    await hub.start()
    listening = asyncio.create_task(hub.listen("room", Listener()))
    waiting = asyncio.create_task(hub.confirmed("room"))
    await asyncio.sleep(0)

    listening.cancel()

    with pytest.raises(BrokerUnavailable):
        await waiting
    await hub.close()
