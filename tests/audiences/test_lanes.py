"""Lanes: rendering in order, bounded, and what becomes of those who change meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from redis_pubsub import wire
from redis_pubsub.frames import payload_frame
from redis_pubsub.hub import Hub, lanes
from redis_pubsub.messages import SNAPSHOT, Position, new_header
from redis_pubsub.metrics import Metrics
from tests.test_hub import SlowBroker, turns


class Eyes:
    """A socket with a user's eyes."""

    framing = staticmethod(payload_frame)
    connection_id = ""

    def __init__(self, viewer):
        self.viewer = viewer
        self.got = []
        self.lost = 0

    def write(self, data):
        self.got.append(data)

    def position_lost(self, channel):
        self.lost += 1


class Judge:
    """Says that everybody sees his own name, once it is let."""

    def __init__(self):
        self.may = asyncio.Event()
        self.may.set()
        self.rendered = 0

    def is_strict(self, channel):
        return False

    def patience(self, channel):
        return 0

    async def audiences(self, label, viewers):
        return [viewer.user for viewer in viewers]

    async def render(self, messages, audiences):
        await self.may.wait()
        self.rendered += len(messages) * len(audiences)
        return [
            {each: message.view(b'"%s"' % each.encode()) for each in audiences}
            for message in messages
        ]


class Named(str):
    """A user whose key is his name."""

    @property
    def pk(self):
        return str(self)


@pytest.fixture
def judge():
    return Judge()


@pytest.fixture
async def hub(judge):
    hub = Hub(SlowBroker(), Metrics(), judge=judge)
    await hub.start()
    yield hub
    await hub.close()


@pytest.fixture
def watch(hub):
    async def listen(name):
        eyes = Eyes(hub.viewers.add(Named(name)))
        await hub.listen("board", eyes)
        return eyes

    return listen


def snapshot(offset):
    header = new_header(model="shop.document", audience=SNAPSHOT)
    encoded = wire.Envelope().header("board", header, b"")
    return wire.frame(encoded, b'["secret"]', Position("e", offset))


def frames(*texts):
    return b"".join(b'\x81%c"%s"' % (len(each) + 2, each.encode()) for each in texts)


async def test_everybody_gets_his_view_in_one_write(hub, watch):
    """What arrives in a turn is rendered together and written once."""
    ada, bob = await watch("ada"), await watch("bob")

    hub.deliver("board", snapshot(1))
    hub.deliver("board", snapshot(2))
    await turns(8)

    assert ada.got == [frames("ada", "ada")] and bob.got == [frames("bob", "bob")]


async def test_what_is_not_rendered_is_sealed(hub):
    """A path that knows no audiences shows nothing of a snapshot."""
    message = wire.Envelope().parse("board", snapshot(1))

    assert message.raw == b"null" and message.payload is None
    assert "secret" not in repr(message)
    assert message.opened().payload == ["secret"]


async def test_a_listener_without_a_viewer_gets_nothing(hub):
    """Also one of somebody's own that was written before there were audiences."""
    eyes = Eyes(None)
    del eyes.viewer
    await hub.listen("board", eyes)

    hub.deliver("board", snapshot(1))
    await turns(8)

    assert eyes.got == [] and eyes.lost == 0


async def test_who_joins_while_it_is_rendered_does_not_get_it(hub, watch, judge):
    """It was said before: who wants it asks for what he missed."""
    ada = await watch("ada")
    judge.may.clear()
    hub.deliver("board", snapshot(1))
    await turns()

    bob = await watch("bob")
    hub.deliver("board", snapshot(2))
    judge.may.set()
    await turns(12)

    assert b"".join(ada.got) == frames("ada", "ada")
    assert b"".join(bob.got) == frames("bob") and bob.lost == 0


async def test_who_changes_while_it_is_rendered_gets_what_he_is_then(hub, watch, judge):
    """Never what was rendered for what he was."""
    eyes = await watch("before")
    judge.may.clear()
    hub.deliver("board", snapshot(1))
    await turns()

    eyes.viewer.forget(Named("after"))
    judge.may.set()
    await turns(12)

    assert eyes.got == [frames("after")]


async def test_who_changes_between_rendering_and_writing_is_told(hub, watch, judge):
    """Nothing is shown, and nothing is lost silently."""
    eyes = await watch("before")
    release = lanes.Lanes._release

    def change(self, feed, message):
        eyes.viewer.forget(Named("after"))
        release(self, feed, message)

    lanes.Lanes._release = change
    try:
        hub.deliver("board", snapshot(1))
        await turns(12)
    finally:
        lanes.Lanes._release = release

    assert eyes.got == [] and eyes.lost == 1
    assert hub.metrics["audience_gaps"] == 1


async def test_a_full_lane_loses_what_waits_and_says_so(hub, watch, judge, monkeypatch):
    """Bounded however slow a serializer is; its one rendering goes on alone."""
    monkeypatch.setattr(lanes, "LANE_MESSAGES", 10)
    eyes = await watch("ada")
    judge.may.clear()

    for offset in range(1, 13):
        hub.deliver("board", snapshot(offset))
        await turns()
    assert eyes.lost == 1 and hub.metrics["audience_lanes_full"] == 1

    judge.may.set()
    await turns(12)
    assert b"".join(eyes.got) == frames("ada", "ada")
    hub.deliver("board", snapshot(13))
    await turns(12)
    assert b"".join(eyes.got) == frames("ada", "ada", "ada")


async def test_a_judge_that_fails_shows_nothing_and_says_so(hub, watch, judge):
    """The listeners are told that something is missing."""
    eyes = await watch("ada")

    async def fail(*args):
        raise RuntimeError("broken")

    judge.render = fail
    hub.deliver("board", snapshot(1))
    await turns(12)

    assert eyes.got == [] and eyes.lost == 1
    assert hub.metrics["audience_errors"] == 1


async def test_who_leaves_an_audience_that_goes_on_gets_nothing_of_it(hub, watch):
    """Which listener belongs to which audience is kept only until somebody changes."""
    ada, bob = await watch("one"), await watch("one")
    hub.deliver("board", snapshot(1))
    await turns(8)

    ada.viewer.forget(Named("other"))
    hub.deliver("board", snapshot(2))
    await turns(12)

    assert ada.got == [frames("one"), frames("other")]
    assert bob.got == [frames("one"), frames("one")]
