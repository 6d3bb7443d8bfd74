"""What stayed behind: the relay of a serving process, and the commands."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.urls import reverse

from redis_pubsub import publish
from redis_pubsub.broker import Read
from redis_pubsub.conf import get_config
from redis_pubsub.engine import Engine
from redis_pubsub.models import OutboxMessage
from redis_pubsub.publishing.drafts import drafts_of
from redis_pubsub.publishing.outbox import drain, relay, rows, state
from redis_pubsub.publishing.outbox.relay import Relay, Round
from redis_pubsub.publishing.publisher import publisher
from tests.shop.models import OnCreate

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def leave(*words, using="default", channel="room"):
    """Messages that a process committed and did not publish."""
    config = get_config()
    drafts = [drafts_of(config, [channel], word)[0] for word in words]
    rows.write(drafts, using)


def heard(channel="room"):
    (history,) = publisher.broker().read([Read(channel, limit=10_000)])
    return [message.payload for message in history.messages]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(relay, "POLL_S", 0.01)
    monkeypatch.setattr(relay, "LONGEST_S", 0.02)


@pytest.fixture
async def engine(outbox_on, quick):
    """A serving process's engine, as its application starts it."""
    engine = Engine(get_config())
    await engine.start()
    engine.part(Relay).start()
    yield engine
    await engine.close()


async def in_thread(function, *args, **options):
    """Database work beside the loop; leaves no connection in its thread."""

    def work():
        try:
            return function(*args, **options)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


async def depth():
    return (await in_thread(state)).depth


async def is_empty():
    async with asyncio.timeout(10):
        while await depth():
            await asyncio.sleep(0.01)


@pytest.mark.may_block(reason="writes rows")
async def test_a_serving_process_relays_every_database(engine):
    """Whoever left it there: it is out within a poll."""
    await in_thread(leave, "a", "b")
    await in_thread(leave, "c", using="other", channel="another")

    await is_empty()

    assert await in_thread(heard) == ["a", "b"]
    assert await in_thread(heard, "another") == ["c"]


@pytest.mark.may_block(reason="writes rows")
async def test_a_relay_that_fails_is_noticed_and_goes_on(
    engine, monkeypatch, caplog, counted
):
    """A traceback in the log, a counter, and the next round."""
    relay_once = relay.relay_once

    def fail(*args):
        monkeypatch.setattr(relay, "relay_once", relay_once)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(relay, "relay_once", fail)
    await in_thread(leave, "a")

    await is_empty()

    assert counted("outbox_relay_crashed") == 1
    assert "unforeseen" in caplog.text and "Traceback" in caplog.text


@pytest.mark.may_block(reason="writes rows")
async def test_closing_waits_for_the_round_and_ends_the_task(engine):
    """No task stays, and nothing is published afterwards."""
    await engine.close()
    await in_thread(leave, "a")

    assert not [t for t in asyncio.all_tasks() if t.get_name() == "redis-pubsub-relay"]
    assert await depth() == 1


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_site_without_an_outbox_has_no_relay(site, is_on, monkeypatch):
    """No task and no query; one model that uses it is enough."""
    monkeypatch.setattr(OnCreate, "PUBLISH_OUTBOX", is_on)
    engine = Engine(get_config())
    engine.part(Relay).start()

    names = {task.get_name() for task in asyncio.all_tasks()}
    assert ("redis-pubsub-relay" in names) is is_on
    await engine.close()
    await engine.part(Relay).close()


def test_pauses_grow_while_something_fails():
    """Up to a bound, with jitter, and at once while there is more."""
    pauses = relay.Pauses()
    failing = [pauses.after(Round(has_failed=True)) for _ in range(20)]

    assert max(failing) <= relay.LONGEST_S * 1.5
    assert pauses.after(Round(published=1, is_left=True)) == 0
    assert 0 < pauses.after(Round()) <= relay.POLL_S * 1.5


def test_a_database_that_fails_does_not_keep_the_others_waiting(
    outbox_on, monkeypatch, counted, caplog
):
    """A table that is missing in one database is logged; the others go on."""
    from django.db import DatabaseError

    waiting = rows.waiting_partitions

    def fail(using):
        if using == "default":
            raise DatabaseError("no such table")
        return waiting(using)

    monkeypatch.setattr(relay, "waiting_partitions", fail)
    leave("a", using="other")

    done = relay.relay_once()

    assert done.published == 1 and done.has_failed and counted("outbox_errors") == 1
    assert "no such table" in caplog.text


@pytest.mark.slow
def test_d9_a_long_outage_drains_with_flat_memory(outbox_on, counted):
    """D9: 100,000 rows in batches; memory does not follow the table."""
    for begin in range(0, 100_000, 5_000):
        leave(*range(begin, begin + 5_000), channel="many")
    relay.relay_once(lambda: counted("outbox_published") > 5_000)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    relay.relay_all(60)

    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert state().depth == 0 and counted("outbox_published") == 100_000
    assert heard("many") == list(range(99_000, 100_000))
    assert grown_kb < 20_000, f"{grown_kb} KiB"


@pytest.mark.may_block(reason="starts a process")
def test_the_relay_command_relays_until_it_is_stopped(world):
    """SIGTERM ends it with 0."""
    leave("a")
    process = world.agent("command", arguments=["pubsub_relay"])
    process.wait_for("Relaying")
    while world.waiting():
        pass

    assert process.end(signal.SIGTERM) == 0
    assert world.heard() == ["a"]


def test_once_ends_when_nothing_is_left(outbox_on, capsys):
    """Status 1 if something is."""
    leave("a", "b")
    call_command("pubsub_relay", "--once")
    assert "published: 2, waiting: 0, parked: 0" in capsys.readouterr().out

    leave("c")
    publisher.hold_off()
    publisher.broker().publish_fenced = _unavailable
    with pytest.raises(SystemExit) as ended:
        call_command("pubsub_relay", "--once")
    assert ended.value.code == 1


def test_once_waits_for_what_somebody_else_publishes(outbox_on, quick, capsys, monkeypatch):
    """Serving processes relay too: a partition that one of them has at that moment is no
    reason to end with status 1."""
    leave("a")
    hold, asked = drain.hold, []

    @contextlib.contextmanager
    def taken_at_first(*args):
        asked.append(args)
        if len(asked) < 4:
            yield None
            return
        with hold(*args) as held:
            yield held

    monkeypatch.setattr(drain, "hold", taken_at_first)
    call_command("pubsub_relay", "--once")

    assert "published: 1, waiting: 0, parked: 0" in capsys.readouterr().out
    assert heard() == ["a"]


def _unavailable(*args):
    from redis_pubsub.exceptions import BrokerUnavailable

    raise BrokerUnavailable("away")


def test_the_relay_command_refuses_memory(settings):
    """Nobody would hear it."""
    settings.REDIS_PUBSUB = {"url": "memory://", "outbox": True}

    with pytest.raises(CommandError, match="one process's memory"):
        call_command("pubsub_relay")


@pytest.fixture
def parked(outbox_on):
    leave("a", "b", "c")
    OutboxMessage.objects.update(parked=True, attempts=5, last_error="no room")
    return list(OutboxMessage.objects.order_by("id").values_list("id", flat=True))


def test_the_outbox_command_lists_retries_and_drops(parked, capsys):
    """Parked messages by id, by channel, or all."""
    call_command("pubsub_outbox")
    out = capsys.readouterr().out
    assert "default: waiting: 0, oldest: 0.0 s, parked: 3" in out
    assert f"{parked[0]}\troom\tno room" in out

    call_command("pubsub_outbox", "retry", str(parked[0]))
    call_command("pubsub_outbox", "drop", "--channel", "room")
    assert "to be tried again: 1\ndropped: 2" in capsys.readouterr().out
    assert list(OutboxMessage.objects.values_list("id", "parked")) == [(parked[0], False)]
    call_command("pubsub_relay", "--once")
    assert heard() == ["a"]

    with pytest.raises(CommandError, match="name the ids"):
        call_command("pubsub_outbox", "drop")
    with pytest.raises(CommandError, match="no database"):
        call_command("pubsub_outbox", "--database", "nowhere")


def test_the_admin_shows_and_retries(parked, client, django_assert_max_num_queries):
    """List, filter, the error, one message, the action; no form to change one."""
    client.force_login(User.objects.create_superuser("root"))
    url = reverse("admin:redis_pubsub_outboxmessage_changelist")
    with django_assert_max_num_queries(6):
        page = client.get(url, {"parked__exact": 1})
    assert page.status_code == 200 and b"no room" in page.content
    detail = client.get(reverse("admin:redis_pubsub_outboxmessage_change", args=parked[:1]))
    assert b"&quot;a&quot;" in detail.content

    client.post(url, {"action": "retry", "_selected_action": parked[:2]})

    assert OutboxMessage.objects.filter(parked=False).count() == 2
    assert (
        client.get(url.replace("/outboxmessage/", "/outboxmessage/add/")).status_code == 403
    )


def test_a_transaction_that_waits_keeps_no_relay_waiting(outbox_on):
    """Nothing of it is seen before it commits."""
    publish("room", "a")

    assert relay.relay_once() == Round()
    assert heard() == ["a"]
