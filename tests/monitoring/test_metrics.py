"""``/metrics``: what is in it, and who may read it."""

from __future__ import annotations

import re

import pytest

from redis_pubsub.contrib.monitoring import endpoints
from redis_pubsub.metrics import MAX, Gauge

pytestmark = pytest.mark.django_db(transaction=True)
prometheus = pytest.importorskip("prometheus_client")


def value(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"no {name} in {text}"
    return float(found[1])


async def scrape(served, **headers):
    async with served.http.get(served.url + "/metrics", headers=headers) as answer:
        return answer.status, await answer.text()


async def test_counters_and_gauges_are_shown(serve):
    """Counters end in ``_total``; gauges are of now."""
    from tests.shop.websockets import echo

    served = await serve(echo)
    ws = await served.connect("/")
    served.engine.metrics.count("slow_disconnects", 3)

    status, text = await scrape(served)

    assert status == 200
    assert value(text, "redis_pubsub_slow_disconnects_total") == 3
    assert value(text, 'redis_pubsub_connections{kind="handler"}') == 1
    assert value(text, 'redis_pubsub_connections{kind="live"}') == 0
    assert value(text, "redis_pubsub_channels") >= 1
    assert value(text, "redis_pubsub_hub_backlog_bytes") == 0
    assert value(text, "redis_pubsub_orm_waiting") == 0
    assert value(text, "redis_pubsub_workers") == 1
    assert value(text, "redis_pubsub_is_ready") in (0, 1)
    assert "redis_pubsub_loop_lag_seconds" in text
    await ws.close()
    _, text = await scrape(served)
    assert value(text, 'redis_pubsub_connections{kind="handler"}') == 0


async def test_what_threads_published_is_counted_too(serve, site):
    """Views publish through a publisher of their own: it is in the same page."""
    import asyncio

    from redis_pubsub import publish

    served = await serve()
    before = served.engine.metrics["published"]
    await asyncio.to_thread(publish, "news", 1)

    _, text = await scrape(served)

    assert value(text, "redis_pubsub_published_total") >= before + 1


async def test_parts_add_gauges_and_a_broken_one_spoils_nothing(serve, caplog):
    """The engine's table is open to every part."""
    served = await serve()
    served.engine.gauges.add(Gauge("outbox_depth", "Waiting rows", lambda: 7, MAX))
    served.engine.gauges.add(Gauge("broken", "Raises", lambda: 1 / 0))

    _, text = await scrape(served)

    assert value(text, "redis_pubsub_outbox_depth") == 7
    assert "redis_pubsub_broken" not in text and "'broken'" in caplog.text


async def test_the_sites_own_metrics_are_in_the_same_page(serve):
    """What else is registered, where one process is all there is."""
    prometheus.Counter("orders_shipped", "A site's own").inc(2)
    served = await serve()

    _, text = await scrape(served)

    assert value(text, "orders_shipped_total") >= 2


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Real-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "example.com"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_nobody_reads_them_through_a_proxy(serve, headers):
    """Whatever a proxy adds, or the public name alone, is enough to be refused."""
    served = await serve()

    status, text = await scrape(served, **headers)

    assert status == 403 and "redis_pubsub_" not in text
    assert served.engine.metrics["metrics_refused"] == 1


@pytest.mark.parametrize("host", ["localhost:80", "[::1]:80", "127.0.0.1"])
async def test_this_machine_reads_them_by_any_of_its_names(serve, host):
    served = await serve()

    assert (await scrape(served, Host=host))[0] == 200


async def test_a_token_opens_them_from_everywhere_and_nothing_else_does(
    site, settings, serve
):
    """With ``metrics_token`` set this machine needs it as well."""
    settings.REDIS_PUBSUB = {**site, "health": {"metrics_token": "s3cret"}}
    served = await serve()
    far = {"X-Forwarded-For": "203.0.113.9", "Host": "example.com"}

    assert (await scrape(served, Authorization="Bearer s3cret", **far))[0] == 200
    assert (await scrape(served))[0] == 403
    for wrong in ("Bearer other", "Bearer ", "Basic s3cret", "Bearer s3cret2"):
        status, text = await scrape(served, Authorization=wrong)
        assert status == 403 and "s3cret" not in text


async def test_without_the_package_the_page_says_what_to_install(serve, monkeypatch):
    """404, explained; and nothing is written anywhere."""
    monkeypatch.setattr(endpoints, "find_spec", lambda name: None)
    served = await serve()

    status, text = await scrape(served)

    assert status == 404 and "django-redis-pubsub[prometheus]" in text


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
async def test_what_waits_in_the_outbox_is_shown(serve, settings, site, until):
    """Depth and age, as the database says; a parked message is counted apart."""
    from redis_pubsub.publishing.outbox import relay

    settings.REDIS_PUBSUB = site | {"outbox": True}
    served = await serve()
    gauges = {gauge.name: gauge for gauge in served.engine.gauges}
    assert gauges["outbox_messages"].read() == 0

    part = served.engine.part(relay.Relay)
    await served.engine.orm.run(_leave_behind)
    part._state_at = 0
    await part._look()

    status, text = await scrape(served)
    assert status == 200
    assert value(text, "redis_pubsub_outbox_parked") == 1
    assert value(text, "redis_pubsub_outbox_messages") == 0


def _leave_behind():
    from redis_pubsub.models import OutboxMessage

    OutboxMessage.objects.create(
        partition=0, channel="news", header=b"{}", payload=b"1", parked=True
    )
