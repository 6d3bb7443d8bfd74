"""Jobs that failed for good, for people: a command and a page."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command

from redis_pubsub.broker import open_broker
from redis_pubsub.conf import get_config
from redis_pubsub.consumers import consumer
from redis_pubsub.metrics import Metrics
from redis_pubsub.publishing.publisher import publisher
from tests.workers.test_workers import dead, state

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def letters(site, work, until):
    """Two dead letters of ``poison``, a consumer of ``tests.shop``."""

    @consumer("poison", retries=0)
    async def poison(how):
        raise RuntimeError(f"poisoned by {how}")

    worker = await work(poison)
    for how in ("arsenic", "<b>lead</b>"):
        await poison.asend(how=how)
    await until(lambda: worker.engine.metrics["jobs_dead"] == 2 and not worker.running)
    await worker.close()


def command(*arguments):
    out = StringIO()
    call_command("pubsub_deadletters", *arguments, stdout=out)
    return out.getvalue()


async def test_the_command_lists_replays_and_deletes(letters):
    """C-4: payload and error; then back into the queue, or gone."""
    from asgiref.sync import sync_to_async

    def use():
        listed = command("list")
        assert '{"how":"arsenic"}' in listed and "poisoned by arsenic" in listed
        assert "2 dead letter(s)" in listed
        (entry,) = re.findall(r"poison (\S+) .*\n.*arsenic", listed)

        assert command("replay", "poison", entry) == "replayed: 1 of 1\n"
        assert state("poison").waiting == 1
        assert command("delete", "poison", "--all") == "deleted: 1 of 1\n"
        assert dead("poison") == []
        for wrong in (
            ["replay"],
            ["delete", "poison"],
            ["delete", "poison", "1-1", "--all"],
        ):
            with pytest.raises(CommandError, match="name a queue"):
                command(*wrong)

    await sync_to_async(use)()


async def test_all_are_replayed_in_the_order_in_which_they_died(letters):
    """A worker with a concurrency of 1 keeps the order of jobs."""
    from asgiref.sync import sync_to_async

    def use():
        died = [letter.raw for letter in reversed(dead("poison"))]
        assert command("replay", "poison", "--all") == "replayed: 2 of 2\n"
        haul = async_to_sync(take)()
        assert [job.message.raw for job in haul.jobs] == died

    async def take():
        broker = open_broker(get_config().broker_options(), Metrics())
        try:
            return await broker.jobs.take(["poison"], "worker", 2)
        finally:
            await broker.close()

    await sync_to_async(use)()


async def test_the_admin_page_shows_replays_and_deletes(letters, admin_client):
    """C-4: payload and traceback, escaped; two actions."""
    from asgiref.sync import sync_to_async

    def use():
        page = admin_client.get("/admin/redis_pubsub/deadletter/").content.decode()
        assert "arsenic" in page and "Traceback" in page
        assert "&lt;b&gt;lead" in page and "<b>lead" not in page

        first, second = dead("poison")
        url = "/admin/redis_pubsub/deadletter/"
        answer = admin_client.post(
            url, {"action": "replay", "letter": f"poison {first.entry}"}, follow=True
        )
        assert "1 job replayed" in answer.content.decode()
        assert state("poison").waiting == 1
        answer = admin_client.post(
            url, {"action": "delete", "letter": f"poison {second.entry}"}, follow=True
        )
        assert "1 job deleted" in answer.content.decode()
        assert dead("poison") == []

    await sync_to_async(use)()


async def test_the_admin_page_asks_for_permissions(letters, client, django_user_model):
    """Looking, replaying and deleting are three permissions."""
    from asgiref.sync import sync_to_async
    from django.contrib.auth.models import Permission

    url = "/admin/redis_pubsub/deadletter/"

    def use():
        staff = django_user_model.objects.create_user("staff", is_staff=True)
        client.force_login(staff)
        assert client.get(url).status_code == 403
        grant = Permission.objects.get(codename="view_deadletter")
        staff.user_permissions.add(grant)
        page = client.get(url)
        assert page.status_code == 200 and b'value="replay"' not in page.content
        (letter, _) = dead("poison")
        for action in ("replay", "delete"):
            data = {"action": action, "letter": f"poison {letter.entry}"}
            assert client.post(url, data).status_code == 403
        assert len(dead("poison")) == 2

    await sync_to_async(use)()


def test_the_admin_page_says_that_redis_is_away(settings, admin_client):
    """No traceback for the visitor."""
    settings.REDIS_PUBSUB = {"url": "unix:///nowhere/redis.sock"}

    page = admin_client.get("/admin/redis_pubsub/deadletter/")

    assert page.status_code == 200 and b"Redis" in page.content
    publisher.close()
