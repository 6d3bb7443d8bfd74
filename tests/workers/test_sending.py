"""When a job is sent: after the commit, through the outbox, and in tests."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import TestCase

from redis_pubsub import consumer, send
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.models import OutboxMessage
from redis_pubsub.publishing.outbox.relay import relay_all
from redis_pubsub.publishing.publisher import publisher
from redis_pubsub.testing import RedisServer, captured_jobs, eager_jobs
from tests.workers.test_workers import recorder, state


@pytest.mark.django_db(transaction=True)
def test_a_job_is_sent_after_the_commit(any_site):
    """C-2: a rollback, also of a savepoint, sends nothing."""
    with transaction.atomic():
        send("after", n=1)
        try:
            with transaction.atomic():
                send("after", n=2)
                raise ValueError
        except ValueError:
            pass
        assert state("after").waiting == 0

    assert state("after").waiting == 1


@pytest.mark.django_db(transaction=True)
def test_jobs_of_a_transaction_go_out_in_one_round_trip(site):
    """1,000 jobs are one pipeline, as messages are."""
    jobs = publisher.broker().jobs
    calls, send_all = [], jobs.send

    def counted(drafts, **options):
        calls.append(len(drafts))
        return send_all(drafts, **options)

    jobs.send = counted
    with transaction.atomic():
        for n in range(1000):
            send("many", n=n)

    assert calls == [1000]
    assert state("many").waiting == 1000


@pytest.mark.django_db(transaction=True)
def test_without_redis_a_send_outside_a_transaction_raises(settings):
    """Nothing is lost silently; inside, it is logged and counted."""
    settings.REDIS_PUBSUB = {"url": "unix:///nowhere/redis.sock"}

    with pytest.raises(BrokerUnavailable):
        send("nowhere", n=1)
    before = publisher.metrics["jobs_not_sent"]
    with transaction.atomic():
        send("nowhere", n=1)

    assert publisher.metrics["jobs_not_sent"] == before + 1
    publisher.close()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.may_block(reason="the test itself starts a Redis")
def test_with_the_outbox_a_job_survives_a_redis_that_is_down(settings, tmp_path, prefix):
    """The job is a row of the transaction, and sent when Redis is back: once."""
    with RedisServer(tmp_path) as server:
        settings.REDIS_PUBSUB = {"url": server.url, "prefix": prefix, "outbox": True}
        server.kill()
        with transaction.atomic():
            send("kept", delay_s=30, n=1)
        assert OutboxMessage.objects.count() == 1
        server.start()
        publisher.close()

        assert relay_all(20.0) == 1

        assert OutboxMessage.objects.count() == 0
        assert state("kept").later == 1
    publisher.close()


@pytest.mark.django_db(transaction=True)
def test_a_moment_may_be_named(any_site):
    """``at``, aware or naive; not together with a delay."""
    send("at", at=datetime.now(UTC) + timedelta(hours=1))
    assert state("at").later == 1

    with pytest.raises(ValueError, match="not both"):
        send("at", at=datetime.now(UTC), delay_s=1)
    with pytest.raises(ValueError, match="expires_s"):
        send("at", expires_s=0)


class InATestCase(TestCase):
    """Inside a transaction that never commits, without Redis."""

    def test_captured_jobs_are_those_that_would_be_sent(self):
        """What a savepoint undid is not there."""
        with captured_jobs() as jobs:
            send("one", n=1, expires_s=5)
            with transaction.atomic():
                send("two", n=2)
                transaction.set_rollback(True)

        self.assertEqual([(job.name, job.kwargs) for job in jobs], [("one", {"n": 1})])
        self.assertGreater(jobs[0].expires_at, 0)

    def test_eager_jobs_run_when_the_block_ends(self):
        """In the test's thread and transaction, with what they send in turn."""
        seen = []

        @consumer("first")
        def first(pk):
            self.assertTrue(connection.in_atomic_block)
            seen.append(User.objects.get(pk=pk).username)
            send("second", pk=pk)

        @consumer("second")
        async def second(pk):
            seen.append(await User.objects.values_list("username").aget(pk=pk))

        with eager_jobs([first, second]) as jobs:
            user = User.objects.create_user("ada")
            send("first", pk=user.pk)
            self.assertEqual(seen, [])

        self.assertEqual(seen, ["ada", ("ada",)])
        self.assertEqual([job.name for job in jobs], ["first", "second"])

    def test_eager_jobs_raise_what_a_consumer_raises(self):
        """A test fails where the job fails."""

        @consumer("breaks")
        def breaks():
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError), eager_jobs([breaks]):
            send("breaks")
        with self.assertRaisesRegex(LookupError, "nobody.*breaks"), eager_jobs([breaks]):
            send("nobody")


# -- when things break ---------------------------------------------------------------------


@pytest.mark.may_block(reason="the test itself starts a Redis")
async def test_a_worker_heals_when_redis_comes_back(
    settings, tmp_path, prefix, work, until
):
    """Down, and back without its data: jobs that are sent then are run."""
    server = RedisServer(tmp_path)
    server.start()
    settings.REDIS_PUBSUB = {"url": server.url, "prefix": prefix}
    record, seen = recorder("heal")
    worker = await work(record)
    await record.asend(n=1)
    await until(lambda: len(seen) == 1)

    await asyncio.to_thread(server.kill)
    await until(lambda: worker.engine.metrics["worker_unavailable"] >= 1, 10)
    await asyncio.to_thread(server.start)
    while len(seen) < 2:
        try:
            await record.asend(n=2)
        except BrokerUnavailable:
            await asyncio.sleep(0.05)
        else:
            await until(lambda: len(seen) >= 2, 10)

    assert seen[:2] == [{"n": 1}, {"n": 2}]
    await worker.close()
    await asyncio.to_thread(server.stop)


@pytest.mark.may_block(reason="the test itself starts a Redis")
async def test_a_job_that_ends_while_redis_is_away_is_not_run_again(
    settings, tmp_path, prefix, work, until
):
    """The worker keeps saying that it is done until somebody hears it."""
    server = RedisServer(tmp_path)
    server.start()
    settings.REDIS_PUBSUB = {"url": server.url, "prefix": prefix}
    begun, may_end = [], asyncio.Event()

    @consumer("away")
    async def away():
        begun.append(1)
        await may_end.wait()

    worker = await work(away)
    await away.asend()
    await until(lambda: begun)
    # Stopped, not killed: it comes back with what it had.
    os.kill(server.pid, signal.SIGSTOP)
    may_end.set()
    await until(lambda: worker.engine.metrics["worker_unavailable"] >= 1, 15)
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: worker.running == 0, 15)

    found = await worker.engine.hub.broker.jobs.state(["away"])
    assert (found["away"].waiting, found["away"].running) == (0, 0)
    assert len(begun) == 1
    await worker.close()
    await asyncio.to_thread(server.stop)


@pytest.mark.django_db(transaction=True)
async def test_a_connection_the_database_has_closed_is_opened_anew(
    any_site, work, until, django_user_model
):
    """Plain functions run with healthy connections: a broken one fails one job at most,
    and that job is tried again."""
    counts = []

    @consumer("rows", backoff_s=0.01)
    def rows(is_broken):
        if is_broken:
            connection.ensure_connection()
            connection.connection.close()
        counts.append(django_user_model.objects.count())

    worker = await work(rows, concurrency=1)
    await rows.asend(is_broken=False)
    await until(lambda: len(counts) == 1)
    await rows.asend(is_broken=True)
    await until(lambda: worker.engine.metrics["jobs_failed"] >= 1 or len(counts) == 2)
    await rows.asend(is_broken=False)
    await until(lambda: worker.engine.metrics["jobs_done"] >= 2)

    assert counts[-1] == 0
