"""A real Redis that can be killed, and each kind of database, migrated, as ``default``."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command

from redis_pubsub.broker import Read, open_blocking
from redis_pubsub.conf import get_config
from redis_pubsub.metrics import Metrics
from redis_pubsub.models import Channel, OutboxMessage
from redis_pubsub.models.outbox import OutboxPartition
from redis_pubsub.publishing.outbox import relay
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer
from tests import services
from tests.migrations.conftest import as_default
from tests.processes import Process
from tests.shop.models import Message

KINDS = ("sqlite", "postgresql", "mariadb")
MODELS = {"history_size": 1_000}


@pytest.fixture(scope="session")
def server(request, kind, tmp_path_factory):
    """Settings of an empty database."""
    if kind == "sqlite":
        path = tmp_path_factory.mktemp("outbox") / "database"
        yield {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(path),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
        return
    start = services.postgres if kind == "postgresql" else services.mariadb
    with start() as database:
        yield database


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def migrated(server, django_db_blocker):
    with django_db_blocker.unblock(), as_default(server):
        call_command("migrate", verbosity=0)
    return server


@pytest.fixture
def own_redis():
    """A Redis that keeps its data over a restart, and may be killed."""
    with RedisServer(keep=True, arguments=("--appendonly", "yes")) as server:
        yield server


class World:
    """Database, Redis and the processes of a test."""

    def __init__(self, database, setting, redis):
        self.database = database
        self.setting = setting
        self.redis = redis
        self.processes = []

    def agent(self, action, **arguments):
        """Start a process that does something; see ``agent.py``."""
        process = Process(
            *("-m", "tests.publishing.outbox.agent", action, json.dumps(arguments)),
            env={
                "DJANGO_SETTINGS_MODULE": "tests.publishing.outbox.settings",
                "OUTBOX_DATABASE": json.dumps(self.database),
                "OUTBOX_SETTING": json.dumps(self.setting),
            },
        )
        self.processes.append(process)
        return process

    def history(self, channel="room"):
        """What a channel's history has, oldest first."""
        broker = open_blocking(get_config().broker_options(), Metrics())
        (found,) = broker.read([Read(channel, limit=10_000)])
        broker.close()
        return found.messages

    def heard(self, channel="room"):
        return [message.payload for message in self.history(channel)]

    def waiting(self):
        return OutboxMessage.objects.filter(parked=False).count()

    def relay(self):
        publisher._held_off_until = 0.0
        return relay.relay_once()


@pytest.fixture
def world(migrated, django_db_blocker, settings, own_redis, prefix, monkeypatch):
    """This test's database is ``default`` in this thread and in the agents."""
    settings.REDIS_PUBSUB = {
        "url": own_redis.url,
        "prefix": prefix,
        "outbox": True,
        "channels": {"*": MODELS},
    }
    monkeypatch.setattr(relay, "databases", lambda: ["default"])
    with django_db_blocker.unblock(), as_default(migrated):
        world = World(migrated, settings.REDIS_PUBSUB, own_redis)
        yield world
        for process in world.processes:
            process.__exit__()
        for model in (OutboxMessage, OutboxPartition, Message, Channel):
            model._base_manager.all().delete()
    publisher.close()


@pytest.fixture
def outbox_on(settings, site):
    """The outbox, on the database of the run."""
    settings.REDIS_PUBSUB = site | {"outbox": True, "channels": {"*": MODELS}}
    publisher.close()
    return settings.REDIS_PUBSUB


@pytest.fixture
def counted():
    """How much a counter of this process has grown since the test began."""
    before = publisher.metrics.snapshot()
    return lambda name: publisher.metrics[name] - before.get(name, 0)
