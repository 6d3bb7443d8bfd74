"""Whatever users, rights and comings and goings: no message ever reaches a wrong one."""

from __future__ import annotations

import asyncio
import json
import uuid
from unittest import mock

import pytest
from django.contrib.auth import get_user_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redis_pubsub.conf import read
from redis_pubsub.engine import Engine
from redis_pubsub.exceptions import PositionLost
from redis_pubsub.frames import payload_frame
from redis_pubsub.messages import Position
from redis_pubsub.publishing.drafts import draft_of_instance
from tests.shop.models import Document, Tag

KEYS = ["red", "green", "blue"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sets(st.sampled_from(KEYS)), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 4)),
        st.tuples(st.just("come"), st.integers(0, 4)),
        st.tuples(st.just("change"), st.integers(0, 4), st.sampled_from(KEYS)),
        st.tuples(st.just("wait")),
    ),
    max_size=25,
)


class Person:
    """Somebody whose colour says what he may see."""

    def __init__(self, number):
        self.user = get_user_model()(pk=number + 1)
        self.user.colour = KEYS[number % len(KEYS)]
        self.eyes = None
        self.position = None
        self.got = {}
        self.wrong = []


class Eyes:
    framing = staticmethod(payload_frame)
    connection_id = ""

    def __init__(self, person, viewer):
        self.person = person
        self.viewer = viewer
        self.held = []

    def write(self, data):
        if self.held is None:
            try:
                self.read(data)
            except Exception as error:
                # The hub goes on whatever a listener raises; the test does not.
                self.person.wrong.append(error)
        else:
            self.held.append(data)

    def open(self):
        """The reply is written."""
        held, self.held = self.held, None
        for data in held:
            self.read(data)

    def read(self, data):
        while data:
            size, begin = data[1], 2
            if size == 126:
                size, begin = int.from_bytes(data[2:4], "big"), 4
            take(self.person, json.loads(data[begin : begin + size]))
            data = data[begin + size :]

    def position_lost(self, channel):
        """Comes back by itself at the end of the test."""


def take(person, payload):
    """The promise: rendered for what he is now, and he may see it."""
    assert payload["for"] == person.user.colour
    assert person.user.colour in payload["may"]
    assert payload["n"] not in person.got, "twice"
    assert all(number < payload["n"] for number in person.got), "in order"
    person.got[payload["n"]] = payload


@pytest.fixture(params=["redis", "memory"])
def config(request):
    """Settings with a channel that nobody has used, each time."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None

    def fresh():
        name = uuid.uuid4().hex[:8]
        return read(
            {
                "url": server.url if server else f"memory://{name}",
                "prefix": name,
                "channels": {"*": {"history_size": 30}},
            }
        )

    return fresh


@pytest.fixture
def hooks(monkeypatch):
    """Documents whose title says which colours may see them."""

    def serialize_for(self, audience):
        return {"n": int(self.notes), "may": self.title.split(), "for": audience}

    monkeypatch.setattr(Document, "serialize_for", serialize_for)
    monkeypatch.setattr(
        Document, "audience_key", classmethod(lambda cls, user: user.colour)
    )
    monkeypatch.setattr(
        Document,
        "can_view",
        classmethod(lambda cls, user, instance: user.colour in instance.title.split()),
    )


@pytest.mark.may_block(reason="hypothesis writes its examples to disk")
@given(steps=steps)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_message_reaches_a_wrong_audience(config, hooks, steps):
    """Random audiences, subscribes, unsubscribes, returns and changes of rights, on both
    brokers: what somebody gets was rendered for him and is his to see, once and in order;
    and who stays gets all that is his."""
    asyncio.run(play(config(), steps))


async def play(config, steps):
    engine = Engine(config)
    # No database here: nothing is fetched.
    engine.orm.run = in_place
    await engine.start()
    people = [Person(number) for number in range(5)]
    known = {str(person.user.pk): person.user for person in people}
    reread = lambda pks: {pk: known[pk] for pk in pks}  # noqa: E731
    sent = 0
    mocked = mock.patch("redis_pubsub.audiences.rendering.active_users", reread)
    mocked.start()
    try:
        for step in steps:
            match step:
                case ("publish", colours, is_slow):
                    sent += 1
                    await publish(engine, sent, colours)
                    if is_slow:
                        await asyncio.sleep(0)
                case ("leave", number):
                    leave(engine, people[number])
                case ("come", number):
                    await come(engine, people[number])
                case ("change", number, colour):
                    person = people[number]
                    person.user.colour = colour
                    if person.eyes is not None:
                        person.eyes.viewer.forget(person.user)
                case ("wait",):
                    await asyncio.sleep(0.002)
        await everything_arrives(engine, people, sent)
        assert [person.wrong for person in people] == [[]] * len(people)
    finally:
        mocked.stop()
        await engine.close()


async def in_place(function, *args, **kwargs):
    await asyncio.sleep(0)
    return function(*args, **kwargs)


async def publish(engine, number, colours):
    row = Document(
        pk=number, channel_id=1, title=" ".join(sorted(colours)), notes=str(number)
    )
    row._prefetched_objects_cache = {"tags": Tag.objects.none()}
    draft = draft_of_instance(engine.config, "board", row, event="create")
    await engine.hub.broker.publish([draft])


def leave(engine, person):
    if person.eyes is not None:
        engine.hub.leave("board", person.eyes)
        person.eyes = None


async def come(engine, person):
    """Come back from where the last message was, as the live endpoint lets clients in."""
    leave(engine, person)
    last = max(person.got, default=0)
    viewer = engine.hub.viewers.add(person.user)
    eyes = Eyes(person, viewer)
    async with engine.hub.admission("board") as admission:
        for _ in range(5):
            try:
                await admission.prepare(Position("", last), begins=True)
                past = admission.admit(eyes)
                break
            except PositionLost:
                continue
        person.eyes = eyes
        shown = await engine.audiences.shown("board", past.missed, viewer)
        for message in shown:
            take(person, message.payload)
        eyes.open()


async def everything_arrives(engine, people, sent):
    """A last message to all: whoever is there gets it, and nobody what is not his."""
    for person in people:
        await come(engine, person)
    await publish(engine, sent + 1, KEYS)
    async with asyncio.timeout(10):
        while not all(sent + 1 in person.got for person in people):
            await asyncio.sleep(0.002)
