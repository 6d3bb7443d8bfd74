"""Fan-out in one process."""

from __future__ import annotations

import asyncio
import random

import pytest

from redis_pubsub import wire
from redis_pubsub.broker import History
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.frames import payload_frame
from redis_pubsub.hub import Hub, flusher, groups
from redis_pubsub.hub import hub as hub_module
from redis_pubsub.messages import Position, new_header
from redis_pubsub.metrics import Metrics


class SlowBroker:
    """Suspends in every call, as Redis does, so that races show."""

    is_connected = True

    def __init__(self):
        self.calls = []
        self.error = None
        self.is_paused = False

    async def start(self, sink):
        self.sink = sink

    async def close(self):
        self.calls.append(("close", ""))

    def subscribe(self, channel):
        self.calls.append(("subscribe", channel))
        confirmed = asyncio.get_running_loop().create_future()
        if self.error:
            confirmed.set_exception(self.error)
        else:
            confirmed.set_result(None)
        return confirmed

    async def unsubscribe(self, channel):
        self.calls.append(("unsubscribe", channel))
        await asyncio.sleep(0)

    async def read(self, reads):
        await asyncio.sleep(0)
        return [History(Position("", 0), []) for _ in reads]

    def pause(self):
        self.is_paused = True

    def resume(self):
        self.is_paused = False


class Socket:
    """A frame listener that remembers its writes."""

    framing = staticmethod(payload_frame)

    def __init__(self, connection_id=""):
        self.connection_id = connection_id
        self.writes = []
        self.lost = []

    def write(self, data):
        self.writes.append(data)

    def position_lost(self, channel):
        self.lost.append(channel)


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


@pytest.fixture
async def broker():
    return SlowBroker()


@pytest.fixture
async def hub(broker, monkeypatch):
    monkeypatch.setattr(hub_module, "LEAVE_DELAY_S", 0.01)
    hub = Hub(broker, Metrics())
    await hub.start()
    yield hub
    await hub.close()


def data(payload, position=None, **header):
    return wire.frame(
        wire.Envelope().header("", new_header(**header), b""),
        str(payload).encode(),
        position,
    )


def frames(*payloads):
    return b"".join(b"\x81%c%s" % (len(str(p)), str(p).encode()) for p in payloads)


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_listeners_of_one_channel_share_one_redis_subscription(hub, broker):
    """B3: however many listeners come at once, Redis is asked once."""
    await asyncio.gather(*(hub.listen("news", Socket()) for _ in range(5)))

    assert broker.calls == [("subscribe", "news")]


async def test_the_last_listener_leaves_slowly(hub, broker, until):
    """A page change does not unsubscribe and subscribe again."""
    first, second = Socket(), Socket()
    await hub.listen("news", first)

    hub.leave("news", first)
    await hub.listen("news", second)
    hub.leave("news", second)
    await until(lambda: ("unsubscribe", "news") in broker.calls)

    assert broker.calls == [("subscribe", "news"), ("unsubscribe", "news")]


async def test_a_failed_subscription_rolls_back(hub, broker, until):
    """Everybody who waited hears the error; a later listener asks anew."""
    broker.error = BrokerUnavailable("gone")

    results = await asyncio.gather(
        *(hub.listen("news", Socket()) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [BrokerUnavailable] * 3
    assert hub.channels == {}

    broker.error = None
    await hub.listen("news", Socket())
    assert hub.channels == {"news": 1}


async def test_one_turn_is_one_write_per_socket(hub, broker):
    """Messages that arrived together leave together, in order, the same bytes for all."""
    sockets = [Socket() for _ in range(3)]
    for socket in sockets:
        await hub.listen("news", socket)

    for number in range(5):
        broker.sink.deliver("news", data(number))
    await turns()

    assert [socket.writes for socket in sockets] == [[frames(0, 1, 2, 3, 4)]] * 3
    assert sockets[0].writes[0] is sockets[2].writes[0]


async def test_both_kinds_of_listeners_hear_a_channel(hub, broker):
    """Frames for sockets, messages for callbacks."""
    socket, listener = Socket(), Listener()
    await hub.listen("news", socket)
    await hub.listen("news", listener)

    broker.sink.deliver("news", data(1))
    await turns()

    assert socket.writes == [frames(1)] and listener.payloads == [1]


async def test_who_joins_during_a_flush_misses_and_repeats_nothing(
    hub, broker, monkeypatch
):
    """A long flush runs in slices; a listener that comes meanwhile gets what arrives after
    it came."""
    monkeypatch.setattr(groups, "WRITES_PER_TURN", 2)
    early = [Socket() for _ in range(7)]
    for socket in early:
        await hub.listen("news", socket)
    late = Socket()

    broker.sink.deliver("news", data(1))
    await asyncio.sleep(0)
    broker.sink.deliver("news", data(2))
    await hub.listen("news", late)
    broker.sink.deliver("news", data(3))
    await turns(20)

    assert all(b"".join(socket.writes) == frames(1, 2, 3) for socket in early)
    assert b"".join(late.writes) == frames(3)


async def test_a_long_flush_lets_the_loop_serve_others(hub, broker, monkeypatch):
    """Between slices other callbacks run, and another channel's flush takes its turn."""
    monkeypatch.setattr(groups, "WRITES_PER_TURN", 10)
    order = []

    class Logged(Socket):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def write(self, data):
            order.append(self.name)

    for _ in range(100):
        await hub.listen("big", Logged("big"))
    await hub.listen("small", Logged("small"))

    broker.sink.deliver("big", data(1))
    broker.sink.deliver("small", data(1))
    await turns(30)

    assert order.index("small") <= 10 and len(order) == 101


async def test_the_sender_can_be_left_out(hub, broker):
    """W-7: `exclude` names a connection that gets everything else."""
    sender, other = Socket("me"), Socket("you")
    await hub.listen("chat", sender)
    await hub.listen("chat", other)

    broker.sink.deliver("chat", data(1))
    broker.sink.deliver("chat", data(2, exclude="me"))
    broker.sink.deliver("chat", data(3))
    await turns()

    assert b"".join(sender.writes) == frames(1, 3)
    assert b"".join(other.writes) == frames(1, 2, 3)


async def test_a_jump_of_the_offset_is_told_and_a_repetition_dropped(hub, broker, until):
    """Nothing is lost silently, nothing comes twice."""
    listener = Listener()
    await hub.listen("news", listener)

    for offset in (5, 6, 6, 5, 8):
        broker.sink.deliver("news", data(offset, Position("e", offset)))
    broker.sink.deliver("news", data(1, Position("f", 1)))
    await until(lambda: listener.payloads == [5, 6, 8, 1])

    assert listener.lost == ["news"]
    assert hub.metrics["duplicate_messages"] == 2


async def test_garbage_is_counted_and_logged_once(hub, broker, caplog):
    """Bad input: never reaches a client, the channel goes on."""
    listener = Listener()
    await hub.listen("news", listener)

    for _ in range(3):
        broker.sink.deliver("news", b"garbage")
    broker.sink.deliver("news", data(1))
    await turns()

    assert listener.payloads == [1]
    assert hub.metrics["malformed_messages"] == 3
    assert len(caplog.records) == 1 and "news" in caplog.text


async def test_a_listener_that_raises_does_not_stop_the_others(hub, broker, caplog):
    """A traceback in the log, and everybody else is served."""

    class Broken(Socket):
        def write(self, data):
            raise RuntimeError("broken")

    fine = Socket()
    await hub.listen("news", Broken())
    await hub.listen("news", fine)

    broker.sink.deliver("news", data(1))
    await turns()

    assert fine.writes == [frames(1)]
    assert "broken" in caplog.text and hub.metrics["listener_errors"] == 1


async def test_a_framing_that_raises_does_not_stop_the_channel(hub, broker, caplog):
    """Other kinds of listeners get the message, and the next one comes too."""

    class Misframed(Socket):
        framing = staticmethod(lambda message: 1 / 0)

    listener = Listener()
    await hub.listen("news", Misframed())
    await hub.listen("news", listener)

    broker.sink.deliver("news", data(1))
    await turns()
    broker.sink.deliver("news", data(2))
    await turns()

    assert listener.payloads == [1, 2]
    assert "could not be framed" in caplog.text


async def test_who_leaves_during_a_flush_gets_nothing_more(hub, broker, monkeypatch):
    """Between two slices of a long flush."""
    monkeypatch.setattr(groups, "WRITES_PER_TURN", 2)
    sockets = [Socket() for _ in range(6)]
    for socket in sockets:
        await hub.listen("news", socket)

    broker.sink.deliver("news", data(1))
    await asyncio.sleep(0)
    hub.leave("news", sockets[4])
    await turns(10)

    assert [len(socket.writes) for socket in sockets] == [1, 1, 1, 1, 0, 1]


async def test_a_backlog_makes_the_broker_pause(hub, broker, monkeypatch):
    """What cannot be written yet waits in Redis, not without bound in this process."""
    monkeypatch.setattr(flusher, "BACKLOG_HIGH_BYTES", 1_000)
    monkeypatch.setattr(flusher, "BACKLOG_LOW_BYTES", 500)
    await hub.listen("news", Socket())

    for _ in range(3):
        broker.sink.deliver("news", data('"' + "x" * 400 + '"'))
    assert broker.is_paused

    await turns(5)
    assert not broker.is_paused and hub.metrics["backlog_pauses"] == 1


async def test_a_flush_takes_a_bounded_batch(hub, broker, monkeypatch):
    """One write never joins more than the batch size, and nothing is left behind."""
    monkeypatch.setattr(flusher, "BATCH_BYTES", 1_000)
    socket = Socket()
    await hub.listen("news", socket)

    for _ in range(10):
        broker.sink.deliver("news", data('"' + "x" * 398 + '"'))
    await turns(20)

    assert len(socket.writes) == 4
    assert len(b"".join(socket.writes)) == 10 * 404


async def test_every_listener_gets_every_message_whoever_comes_and_goes(hub, broker):
    """P-16: 100 listeners on shared and own channels with random leaves: those that stay
    get everything of their channel, once and in order."""
    chance = random.Random(7)
    sockets = {Socket(): f"channel-{n % 7}" for n in range(100)}
    for socket, channel in sockets.items():
        await hub.listen(channel, socket)
    gone = set()

    for number in range(200):
        for channel in range(7):
            broker.sink.deliver(f"channel-{channel}", data(number))
        if chance.random() < 0.3:
            socket = chance.choice([s for s in sockets if s not in gone])
            hub.leave(sockets[socket], socket)
            gone.add(socket)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await turns(20)

    assert 20 < len(gone) < 90
    expected = frames(*range(200))
    assert all(b"".join(s.writes) == expected for s in sockets if s not in gone)
    assert all(expected.startswith(b"".join(s.writes)) for s in gone)
