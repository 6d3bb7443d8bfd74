"""What a commit sends is not waited for; in tests it is, and by whoever asks for more."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
import redis
from django.db import transaction

from redis_pubsub import ahistory, apublish, history, publish
from redis_pubsub.broker import Read, open_blocking, posting
from redis_pubsub.conf import get_config
from redis_pubsub.consumers import asend
from redis_pubsub.engine import Engine
from redis_pubsub.metrics import Metrics
from redis_pubsub.publishing import publisher as publishers
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer
from tests.processes import Process
from tests.shop.models import Message

pytestmark = pytest.mark.django_db(transaction=True)
KEPT = {"*": {"history_size": 1_000}}


@pytest.fixture
def own_redis(settings, prefix):
    """A Redis that nobody else talks to."""
    with RedisServer() as server:
        settings.REDIS_PUBSUB = {"url": server.url, "prefix": prefix, "channels": KEPT}
        yield server
        publisher.close()


@pytest.fixture
def production(own_redis, monkeypatch):
    """No test looks on, and nobody reads an answer unless he is asked to."""
    monkeypatch.setattr(publishers, "is_under_test", lambda: False)
    monkeypatch.setattr(posting, "READ_S", 3600.0)
    monkeypatch.setattr(publisher, "_is_ending", False)


@pytest.fixture
def admin(own_redis):
    with redis.Redis.from_url(own_redis.url) as admin:
        yield admin


@pytest.fixture
def counted():
    """How much a counter of this process has grown since the test began."""
    before = publisher.metrics.snapshot()
    return lambda name: publisher.metrics[name] - before.get(name, 0)


@contextlib.contextmanager
def held(admin):
    """Redis takes messages, and neither publishes nor answers them."""
    admin.client_pause(60_000, all=False)
    yield
    admin.client_unpause()


def heard(channel="room"):
    """What a channel's history has, as another process sees it."""
    broker = open_blocking(get_config().broker_options(), Metrics())
    (found,) = broker.read([Read(channel, limit=10_000)])
    broker.close()
    return [message.payload for message in found.messages]


def test_a_save_does_not_wait_for_redis(production, admin, counted):
    """Redis has not even looked at the message when `save` returns; it is published once it
    has."""
    first = Message.objects.create(body="a")
    publisher.settle()
    with held(admin):
        Message.objects.create(body="b")
        first.body = "c"
        first.save()

        assert counted("published") == 1

    publisher.settle()
    assert counted("published") == 3
    payloads = heard(first.channel.name)
    assert [row["fields"]["body"] for (row,) in payloads] == ["a", "c"]


def test_a_commit_does_not_wait_for_redis(production, admin, counted):
    """Nor does the end of a transaction."""
    with held(admin):
        with transaction.atomic():
            publish("room", 1)
            publish("room", 2)

        assert counted("published") == 0

    publisher.settle()
    assert counted("published") == 2 and heard() == [1, 2]


async def test_an_async_save_does_not_wait_for_redis(production, admin, counted):
    """The same way, in the thread that asks the database."""
    await Message.objects.acreate(body="a")
    assert counted("published") == 0

    await publisher.asettle()

    assert counted("published") == 1


def test_whoever_publishes_outside_a_transaction_waits(production, counted):
    """`publish` returns when Redis has the message, and those that were posted before."""
    with transaction.atomic():
        publish("room", 1)
    publish("room", 2)

    assert counted("published") == 2
    assert heard() == [1, 2]


def test_a_process_reads_what_it_has_committed(production):
    """Its own history, right after the commit."""
    with transaction.atomic():
        publish("room", 1)

    assert [message.payload for message in history("room")] == [1]


@pytest.fixture
async def engine(production):
    """As in a process that serves sockets."""
    engine = Engine(get_config())
    await engine.start()
    yield engine
    await engine.close()


async def test_the_servers_connections_come_after_the_threads(production, engine, counted):
    """A coroutine that committed and then publishes, or reads, does not overtake itself."""

    def commit(word):
        with transaction.atomic():
            publish("room", word)

    await asyncio.to_thread(commit, 1)
    await apublish("room", 2)
    assert counted("published") == 1
    await asyncio.to_thread(commit, 3)
    await asend("count", n=1)
    assert counted("published") == 2
    await asyncio.to_thread(commit, 4)

    assert [message.payload for message in await ahistory("room")] == [1, 2, 3, 4]
    assert counted("published") == 3


def test_what_redis_did_not_take_is_logged_and_counted(production, admin, counted, caplog):
    """As it is where somebody waits: with the channel, the number and the traceback."""
    publish("room", 0)
    with held(admin):
        with transaction.atomic():
            publish("room", 1)
            publish("room", 2)
        admin.client_kill_filter(_type="normal", skipme=True)

        publisher.settle()

    assert counted("publish_failed") == 2
    (record,) = [each for each in caplog.records if "not published" in each.getMessage()]
    assert record.getMessage() == "2 message(s) not published, the first on 'room'"
    assert record.exc_info is not None


def test_a_redis_that_hangs_is_left_alone_for_a_moment(
    production, admin, settings, counted, monkeypatch
):
    """Messages of the next second fail at once, as where somebody waits."""
    monkeypatch.setattr(publishers, "_HOLD_OFF_S", 3600.0)
    monkeypatch.setattr(posting, "READ_S", 0.01)
    settings.REDIS_PUBSUB |= {"command_timeout_s": 0.6}
    publish("room", 0)
    with held(admin):
        with transaction.atomic():
            publish("room", 1)
        publisher.settle()
    assert publisher.is_held_off

    with transaction.atomic():
        publish("room", 2)

    assert counted("publish_failed") == 2
    publisher.close()


def test_a_redis_that_is_down_breaks_no_save(production, own_redis, counted):
    """Nor does the write that was not possible."""
    own_redis.kill()

    Message.objects.create(body="a")

    assert counted("publish_failed") == 1 and Message.objects.count() == 1
    own_redis.start()


def test_under_test_a_commit_waits(own_redis, counted):
    """So that tests see what was published when the commit has returned."""
    with transaction.atomic():
        publish("room", 1)

    assert counted("published") == 1


@pytest.fixture
def agent(own_redis, settings):
    """Starts processes that publish directly; see ``outbox/agent.py``."""
    with contextlib.ExitStack() as stack:

        def start(action, **arguments):
            process = Process(
                *("-m", "tests.publishing.outbox.agent", action, json.dumps(arguments)),
                env={
                    "DJANGO_SETTINGS_MODULE": "tests.publishing.outbox.settings",
                    "OUTBOX_DATABASE": json.dumps(
                        {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
                    ),
                    "OUTBOX_SETTING": json.dumps(settings.REDIS_PUBSUB),
                },
            )
            stack.callback(process.__exit__)
            return process

        yield start


@pytest.mark.may_block(reason="starts a process")
def test_the_end_of_a_process_waits_for_the_answers(agent):
    """Redis looks at the messages only later; a connection that ended by then would have
    taken them along."""
    words = list(range(30))
    process = agent("post_and_end", words=words, held_s=0.5)

    assert process.wait(60) == 0
    assert heard() == words


@pytest.mark.may_block(reason="starts a process")
def test_the_end_of_a_child_of_multiprocessing_waits_as_well(agent):
    """It ends without what a process usually does at its end."""
    words = list(range(30))
    process = agent("post_in_child", words=words, held_s=0.5)

    assert process.wait(60) == 0
    assert heard() == words


@pytest.mark.may_block(reason="starts a process")
def test_a_forked_process_has_a_connection_of_its_own(agent):
    """And leaves the parent's messages, which are under way, to the parent."""
    process = agent("post_and_fork", held_s=0.5)

    assert process.wait(60) == 0
    assert sorted(heard()) == ["before", "child", "parent"]
