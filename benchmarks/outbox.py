"""``save()`` with and without the outbox, in turn: ``python -m benchmarks.outbox``.

Three kinds of row: one that publishes nothing, one that publishes directly, one through
the outbox. PostgreSQL and SQLite, a real Redis, all private to the run. PostgreSQL is run
as it comes, with ``fsync`` and ``synchronous_commit`` on, and again with the latter off.
What the courier does meanwhile, in its thread of the same process, is part of the time that
saves take, as it is in production; the CPU is that of the saving thread alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from benchmarks.processes import machine, save, spread

KINDS = ("silent", "direct", "outbox")
DATABASES = ("postgresql", "postgresql-async", "sqlite")


@contextmanager
def sqlite() -> Iterator[dict[str, Any]]:
    """An SQLite as Django's documentation recommends it for servers."""
    with tempfile.TemporaryDirectory() as directory:
        yield {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(directory) / "db"),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
            },
        }


def set_up(database: dict[str, Any], url: str) -> None:
    """One process, one database: Django is configured once."""
    settings.configure(
        SECRET_KEY="x",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "redis_pubsub",
            "tests.shop",
        ],
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        REDIS_PUBSUB={"url": url},
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def one_round(kind: str, saves: int) -> tuple[float, float]:
    """Microseconds and CPU microseconds per save, each a transaction of its own."""
    from redis_pubsub.models import Channel
    from redis_pubsub.publishing.outbox import state
    from tests.shop.models import OnCreate, Silent

    channel, _ = Channel.objects.get_or_create(name="bench")
    model: Any = Silent if kind == "silent" else OnCreate
    model.PUBLISH_OUTBOX = kind == "outbox"
    began, cpu = time.perf_counter(), time.thread_time()
    for number in range(saves):
        model(name=f"row {number}", channel=channel).save()
    took = time.perf_counter() - began, time.thread_time() - cpu
    # The next kind must not pay for what this one left to the courier.
    while state("default").depth:
        time.sleep(0.005)
    return took[0] / saves * 1e6, took[1] / saves * 1e6


def measure(rounds: int, saves: int) -> dict[str, Any]:
    """Each kind in turn, after one round that does not count."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS:
            figures = one_round(kind, saves)
            if number:
                found[kind].append(figures)
    silent = found["silent"]
    return {
        "us_per_save": {kind: spread(us for us, _ in found[kind]) for kind in KINDS},
        "cpu_us_per_save": {kind: spread(cpu for _, cpu in found[kind]) for kind in KINDS},
        "to_silent": {
            kind: spread(
                mine / base
                for (mine, _), (base, _) in zip(found[kind], silent, strict=True)
            )
            for kind in KINDS[1:]
        },
    }


def child(kind: str, rounds: int, saves: int) -> None:
    """Measure one database, and print the result."""
    from redis_pubsub.testing.server import RedisServer
    from tests.services import postgres

    with (
        RedisServer() as redis,
        sqlite() if kind == "sqlite" else postgres(is_durable=True) as database,
    ):
        if kind == "postgresql-async":
            database["OPTIONS"] = {"options": "-c synchronous_commit=off"}
        set_up(database, redis.url)
        from redis_pubsub.publishing.outbox.deliver import courier

        print(json.dumps(measure(rounds, saves)))
        # Before its database goes.
        courier.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--saves", type=int, default=200)
    parser.add_argument("--database", choices=DATABASES)
    options = parser.parse_args()
    if options.database:
        child(options.database, options.rounds, options.saves)
        return
    result: dict[str, Any] = {"machine": machine(), "saves": options.saves}
    for kind in DATABASES:
        arguments = ["--database", kind, "--rounds", str(options.rounds)]
        arguments += ["--saves", str(options.saves)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.outbox", *arguments],
            stdout=subprocess.PIPE,
            check=True,
        )
        result[kind] = json.loads(done.stdout)
        print(kind, json.dumps(result[kind], indent=2), sep="\n")
    print(save("outbox", "asyncio", result))


if __name__ == "__main__":
    main()
