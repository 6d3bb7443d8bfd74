"""From ``Message.objects.create()`` to the sockets: ``python -m benchmarks.model_path``.

A process saves rows to PostgreSQL, with the settings that comes with (``fsync`` and
``synchronous_commit`` on); another serves a thousand sockets that hear the channel, with a
history. Three kinds of row in turn: one that publishes nothing, one that publishes
directly, one through the outbox. *Paced*: how long a save takes its caller, and how long a
message takes from before the save to the client. *Unthrottled*: saves one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

from redis_pubsub.testing import RedisServer

from .processes import ROOT, SETTINGS, Child, machine, save, say, spread
from .server import CHANNEL

KINDS = ("silent", "direct", "outbox")
_SIZE = 200
_SAMPLE_EVERY = 10
_TIMEOUT_S = 60.0


class Bench:
    """PostgreSQL, a server, its clients, and the process that saves."""

    def __init__(self, sockets: int, stack: ExitStack) -> None:
        from tests.services import postgres

        database = stack.enter_context(postgres(is_durable=True))
        host = quote(str(database["HOST"]), safe="")
        environment = {
            "DATABASE_URL": f"postgresql://{database['USER']}@{host}/{database['NAME']}",
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "REDIS_URL": stack.enter_context(RedisServer()).url,
        }
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
            check=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

        def start(module: str, *arguments: str) -> Child:
            child = Child(f"benchmarks.{module}", *arguments, environment=environment)
            return stack.enter_context(child)

        self._first = 0
        server = start("server", "ours", "asyncio")
        self._load = start("load")
        self._saver = start("model_path", "--save")
        self.durability = self._saver.hello
        self._load.ask(_TIMEOUT_S, do="connect", port=server.hello["port"], sockets=sockets)

    def round(self, kind: str, saves: int, rate: float) -> dict[str, Any]:
        """Save, and wait until the last socket has the last message."""
        run = {"first": self._first, "messages": saves, "size": _SIZE}
        if kind != "silent":
            self._first += saves
            self._load.ask(do="expect", sample_every=_SAMPLE_EVERY if rate else 0, **run)
        saved = self._saver.ask(_TIMEOUT_S, kind=kind, rate=rate, **run)
        if kind == "silent":
            return saved
        seen = self._load.ask(_TIMEOUT_S + 10, do="collect", within_s=_TIMEOUT_S)
        if seen["errors"] or seen["closed"] or seen["incomplete"]:
            raise SystemExit(f"{kind}: not every message, in order: {seen}")
        return {**saved, "client_ms": seen["latency_ms"]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the first of each kind is a rehearsal and left out."""
    works = {"paced": options.rate, "unthrottled": 0}
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
        work: {kind: [] for kind in KINDS} for work in works
    }
    with ExitStack() as stack:
        bench = Bench(options.sockets, stack)
        for work, rate in works.items():
            saves = int(rate * options.seconds) or options.saves
            for number in range(options.rounds + 1):
                for kind in KINDS:
                    result = bench.round(kind, saves, rate)
                    if number:
                        rounds[work][kind].append(result)
        durability = bench.durability
    return {
        "options": vars(options),
        "machine": machine(),
        "postgresql": durability,
        "figures": {
            work: {kind: summary(results) for kind, results in kinds.items()}
            for work, kinds in rounds.items()
        },
        "ratios_to_silent": {
            work: {kind: ratio(kinds, kind) for kind in KINDS[1:]}
            for work, kinds in rounds.items()
        },
        "rounds": rounds,
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Least, median and greatest of each figure."""
    figures: dict[str, Any] = {
        name: spread(result[name] for result in results)
        for name in ("save_p50_ms", "save_p99_ms", "saves_per_s", "saver_cpu_us")
    }
    if results[0].get("client_ms"):
        for name in ("p50", "p99"):
            values = [result["client_ms"][name] for result in results]
            figures[f"client_{name}_ms"] = spread(values)
    return figures


def ratio(kinds: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, float]:
    """A save's time to that of one that publishes nothing, round by round."""
    found = [
        publishing["save_p50_ms"] / silent["save_p50_ms"]
        for publishing, silent in zip(kinds[kind], kinds["silent"], strict=True)
    ]
    return dict(spread(found))


# -- the process that saves ----------------------------------------------------------


def saver() -> None:
    """Answer commands: save rows of a kind, and say how long each save took."""
    import django

    django.setup()
    from django.db import connection

    from redis_pubsub.models import Channel
    from redis_pubsub.publishing.outbox import state
    from tests.shop.models import Message

    class Posted(Message):
        class Meta:
            proxy = True
            app_label = "shop"

        def serialize(self) -> str:
            return self.body

    channel, _ = Channel.objects.get_or_create(name=CHANNEL)
    shown = {}
    with connection.cursor() as cursor:
        for name in ("server_version", "fsync", "synchronous_commit"):
            cursor.execute(f"SHOW {name}")
            shown[name] = cursor.fetchone()[0]
    say(shown)
    for line in sys.stdin:
        command = json.loads(line)
        Posted.PUBLISH_ON_CREATE = command["kind"] != "silent"
        Posted.PUBLISH_OUTBOX = command["kind"] == "outbox"
        answer = save_rows(Posted, channel, command)
        while state("default").depth:
            time.sleep(0.005)
        say(answer)


def save_rows(model: Any, channel: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Save ``messages`` rows, ``rate`` a second (0: no pause)."""
    from .payloads import payload

    count, rate = command["messages"], command["rate"]
    took: list[float] = []
    cpu, began = time.process_time(), time.monotonic()
    for number in range(count):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        body = payload(command["first"] + number, command["size"]).decode()
        before = time.perf_counter()
        model.objects.create(body=body, channel=channel)
        took.append((time.perf_counter() - before) * 1000)
    elapsed_s = time.monotonic() - began
    return {
        "save_p50_ms": statistics.median(took),
        "save_p99_ms": sorted(took)[int(count * 0.99)],
        "saves_per_s": count / elapsed_s,
        "saver_cpu_us": (time.process_time() - cpu) / count * 1e6,
    }


def table(result: dict[str, Any]) -> str:
    """The result for people: median (least-greatest)."""
    lines = [f"PostgreSQL: {result['postgresql']}"]
    for work, kinds in result["figures"].items():
        lines.append(f"\n{work:16}" + "".join(f"{kind:>26}" for kind in kinds))
        for name in kinds["direct"]:
            cells = [_cell(figures.get(name)) for figures in kinds.values()]
            lines.append(f"  {name:14}" + "".join(f"{cell:>26}" for cell in cells))
        ratios = result["ratios_to_silent"][work]
        cells = ["1", *(_cell(ratios[kind]) for kind in KINDS[1:])]
        lines.append(f"  {'to silent':14}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    least, middle, greatest = (f"{value[n]:.3g}" for n in ("min", "median", "max"))
    return f"{middle} ({least}-{greatest})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=int, default=40, help="paced: saves a second")
    parser.add_argument("--seconds", type=float, default=4, help="paced: length of a round")
    parser.add_argument("--saves", type=int, default=300, help="unthrottled: in a round")
    parser.add_argument("--save", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save:
        saver()
        return
    result = measure(options)
    print(table(result))
    print("\nwritten to", save("model_path", "asyncio", result))


if __name__ == "__main__":
    main()
