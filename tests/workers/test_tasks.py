"""Django's ``@task`` on this package's queues and workers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone

from redis_pubsub.consumers import asend
from redis_pubsub.contrib.tasks import framework
from redis_pubsub.contrib.tasks.consumers import task_consumers
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.publishing.publisher import publisher
from tests.conftest import MUST
from tests.shop import tasks
from tests.workers.test_workers import dead, state

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        framework.home() is None and not MUST,
        reason="neither Django 6 nor django-tasks is installed",
    ),
]
QUEUE = "task:default:default"


@pytest.fixture
def tasks_site(any_site, settings):
    settings.TASKS = {
        "default": {
            "BACKEND": "redis_pubsub.contrib.tasks.PubSubBackend",
            "QUEUES": ["default", "mail"],
        }
    }
    return settings


@pytest.fixture
def finished(until):
    """The result of a task once it is over."""

    async def wait(result):
        async def is_over():
            await result.arefresh()
            return result.is_finished

        import asyncio

        async with asyncio.timeout(10):
            while not await is_over():
                await asyncio.sleep(0.01)
        return result

    return wait


@pytest.mark.parametrize("name", ["add", "aadd"])
async def test_a_task_is_run_and_its_value_is_kept(name, tasks_site, work, finished):
    """C-2: plain and async tasks; the result says who ran it and when."""
    worker = await work(*task_consumers())
    result = await getattr(tasks, name).aenqueue(2, b=3)
    assert result.status == "READY" and not result.is_finished

    await finished(result)

    assert (result.status, result.return_value) == ("SUCCESSFUL", 5)
    assert result.worker_ids == [worker.id] and result.attempts == 1
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert (await tasks.__dict__[name].aget_result(result.id)).return_value == 5


async def test_a_task_that_fails_keeps_its_error(tasks_site, work, finished):
    """C-4: class and traceback; the job is a dead letter, and can be replayed."""
    await work(*task_consumers())

    result = await finished(await tasks.fail.aenqueue("on purpose"))

    assert result.status == "FAILED"
    (error,) = result.errors
    assert error.exception_class is ValueError and "on purpose" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        result.return_value
    assert len(await sync_to_async(dead)(QUEUE)) <= 1


async def test_a_task_is_tried_as_often_as_its_backend_says(tasks_site, work, finished):
    """C-4: each attempt's error is kept."""
    backend = tasks_site.TASKS["default"]
    tasks_site.TASKS = {
        "default": {**backend, "OPTIONS": {"retries": 2, "backoff_s": 0.01}}
    }
    await work(*task_consumers())

    result = await finished(await tasks.fail.aenqueue("again"))

    assert (result.status, result.attempts, len(result.errors)) == ("FAILED", 3, 3)


async def test_a_value_that_is_no_json_is_a_failure(tasks_site, work, finished):
    """The result would not be what the task returned."""
    await work(*task_consumers())

    result = await finished(await tasks.return_object.aenqueue())

    assert result.status == "FAILED" and result.errors[0].exception_class is TypeError


async def test_queues_and_context(tasks_site, work, finished):
    """A worker of one queue leaves the others alone; a task may ask about itself."""
    await work(*task_consumers(), queues=["task:default:mail"])
    other = await tasks.add.aenqueue(1)

    result = await finished(await tasks.which_attempt.using(queue_name="mail").aenqueue())

    assert result.return_value == [1, "RUNNING"]
    await other.arefresh()
    assert other.status == "READY"


async def test_run_after_is_honoured(tasks_site, work, finished):
    """It waits in Redis until it is due."""
    await work(*task_consumers())
    soon = timezone.now() + timedelta(seconds=0.5)

    result = await tasks.add.using(run_after=soon).aenqueue(1)
    assert (await sync_to_async(state)(QUEUE)).later == 1
    await finished(result)

    assert result.started_at >= soon


async def test_a_rolled_back_transaction_enqueues_nothing(tasks_site):
    """After the commit, as everything here."""

    def enqueue():
        with transaction.atomic():
            tasks.add.enqueue(1)
            transaction.set_rollback(True)
        assert state(QUEUE).waiting == 0
        with transaction.atomic():
            tasks.add.enqueue(1)
            assert state(QUEUE).waiting == 0
        assert state(QUEUE).waiting == 1

    await sync_to_async(enqueue)()


async def test_redis_cannot_name_what_is_called(tasks_site, work, until):
    """M-10: only what ``@task`` decorates is run, whatever path a job has."""
    worker = await work(*task_consumers())
    record = {
        "id": "x",
        "task": "",
        "backend": "default",
        "queue": "default",
        "args": ["1"],
    }

    for path in ("os.system", "tests.shop.tasks.no_task", "no.such"):
        await asend(QUEUE, record={**record, "id": path, "task": path})
    await until(lambda: worker.engine.metrics["jobs_dead"] == 3 and not worker.running)

    errors = [letter.error for letter in await sync_to_async(dead)(QUEUE)]
    assert sum("is no task" in error for error in errors) == 2


async def test_an_unknown_result(tasks_site):
    """The framework's own exception."""
    exceptions = framework.part("exceptions")
    missing = getattr(exceptions, "TaskResultDoesNotExist", None)

    with pytest.raises(missing or exceptions.ResultDoesNotExist):
        await tasks.add.aget_result("nothing")


async def test_a_task_whose_workers_died_has_failed(tasks_site, work, finished):
    """C-4: the result does not say RUNNING for ever."""
    tasks_site.REDIS_PUBSUB = {
        **tasks_site.REDIS_PUBSUB,
        "workers": {"takeover_s": 0.2, "crashes": 1},
    }
    worker = await work(*task_consumers())
    await worker.close()
    result = await tasks.add.aenqueue(1)
    jobs = worker.engine.hub.broker.jobs
    assert (await jobs.take([QUEUE], "victim", 1)).jobs

    await work(*task_consumers())
    await finished(result)

    assert result.status == "FAILED" and "workers died" in result.errors[0].traceback


def test_priorities_are_refused(tasks_site):
    """What is not supported is said, not ignored."""
    backend = framework.part().task_backends["default"]
    assert not backend.supports_priority
    assert backend.supports_defer and backend.supports_get_result
    assert backend.supports_async_task
    with pytest.raises(Exception, match="priority"):
        tasks.add.using(priority=5)


def test_checks_know_the_entry(tasks_site):
    """Queues that no worker could know, and options that do nothing."""
    tasks_site.TASKS = {
        "default": {
            "BACKEND": "redis_pubsub.contrib.tasks.PubSubBackend",
            "QUEUES": [],
            "OPTIONS": {"retry": 1},
        }
    }
    backend = framework.part().task_backends["default"]

    found = [each.id for each in backend.check()]
    assert found == ["redis_pubsub.E030", "redis_pubsub.E031"]


async def test_a_task_that_is_done_while_redis_is_away_has_not_failed(
    tasks_site, work, finished, monkeypatch
):
    """Its record is kept as soon as Redis is back: it is neither run again nor a dead
    letter, as little as any other job."""
    result = await tasks.add.aenqueue(1, b=2)
    jobs = publisher.broker().jobs
    keep, calls = jobs.keep, []

    def away(*args):
        calls.append(args)
        if len(calls) in (1, 3, 4):
            raise BrokerUnavailable("away")
        keep(*args)

    monkeypatch.setattr(jobs, "keep", away)
    worker = await work(*task_consumers())

    result = await finished(result)

    assert result.status == "SUCCESSFUL" and result.return_value == 3
    assert len(result.worker_ids) == 1 and len(calls) == 5
    assert worker.engine.metrics["jobs_failed"] == 0
    assert (await sync_to_async(state)(QUEUE)).dead == 0


async def test_enqueue_on_the_loop_names_aenqueue(tasks_site):
    """It would hold up every socket of the process while Redis answers."""
    with pytest.raises(RuntimeError, match="await aenqueue"):
        tasks.add.enqueue(1)
