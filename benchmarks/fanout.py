"""One channel, many sockets: this package beside a bare aiohttp loop, in turn, in one run.

``python -m benchmarks.fanout`` prints a table and writes ``results/fanout.json``;
``--servers live ours`` compares another pair and writes ``results/fanout-live-ours.json``.
Both servers run all the time, each with its own sockets; only one is published to at a
time. Wall times are of a shared machine: read the ratios, and the CPU per delivery, which
is the kernel's accounting of the server process alone.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from redis_pubsub.testing import RedisServer

from .processes import Child, Spread, cpu_s, database, machine, save, spread
from .server import CHANNEL

SERVERS = {"ours": "websocket_pubsub", "live": "live endpoint", "bare": "bare aiohttp"}
_DEFAULT = ["ours", "bare"]
WORKLOADS = ("unthrottled", "paced")
_ROUND_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 60.0
_SAMPLE_EVERY = 10
"""Latency is taken on every so many sockets."""


class Bench:
    """A server, its publisher and its clients.

    Args:
        kind: Which server.
        options: The command line.
        environment: Where the database is.
        stack: Ends the processes.
    """

    def __init__(
        self,
        kind: str,
        options: argparse.Namespace,
        environment: dict[str, str],
        stack: ExitStack,
    ) -> None:
        self._options = options
        self._first = 0
        # One Redis each: with the same channel in one, both would be published to.
        environment = {**environment, "REDIS_URL": stack.enter_context(RedisServer()).url}

        def start(module: str, *arguments: str) -> Child:
            child = Child(f"benchmarks.{module}", *arguments, environment=environment)
            return stack.enter_context(child)

        self.server = start("server", kind, options.loop)
        self._publisher = start("publisher", kind)
        self._load = start("load")
        self._load.ask(
            _CONNECT_TIMEOUT_S,
            do="connect",
            port=self.server.hello["port"],
            sockets=options.sockets,
            live=[CHANNEL] if kind == "live" else None,
        )

    def round(self, messages: int, rate: float) -> dict[str, Any]:
        """Publish, wait until the last socket has the last message, and count."""
        sample = _SAMPLE_EVERY if rate else 0
        run = {"first": self._first, "messages": messages, "size": self._options.size}
        sockets = self._load.ask(do="expect", sample_every=sample, **run)["sockets"]
        self._first += messages
        chunk = 1 if rate else self._options.chunk
        before = cpu_s(self.server.pid)
        self._publisher.tell(rate=rate, chunk=chunk, **run)
        seen = self._load.ask(
            _ROUND_TIMEOUT_S + 10, do="collect", within_s=_ROUND_TIMEOUT_S
        )
        used = cpu_s(self.server.pid) - before
        published = self._publisher.read(_ROUND_TIMEOUT_S)
        deliveries = seen["bytes"] / seen["frame_bytes"]
        took = (seen["finished_at"] or time.time()) - published["started"]
        return {
            "sockets": sockets,
            "messages": messages,
            "deliveries": deliveries,
            "took_s": took,
            "deliveries_per_s": deliveries / took,
            "server_cpu_us_per_delivery": used / deliveries * 1e6,
            "server_core_share": used / took,
            "messages_per_read": deliveries / max(1, seen["reads"]),
            "publisher": published,
            "load": seen,
            "server": self.server.ask(do="counters"),
            "is_complete": deliveries == sockets * messages
            and not (seen["errors"] or seen["closed"] or seen["incomplete"]),
        }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the first of each is a rehearsal and left out."""
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
        work: {kind: [] for kind in options.servers} for work in options.workloads
    }
    with ExitStack() as stack:
        environment = stack.enter_context(database())
        benches = {
            kind: Bench(kind, options, environment, stack) for kind in options.servers
        }
        for work in options.workloads:
            for number in range(options.rounds + 1):
                for kind, bench in benches.items():
                    if work == "paced":
                        count = int(options.rate * options.seconds)
                        result = bench.round(count, options.rate)
                    else:
                        result = bench.round(options.messages[kind], 0)
                    if number:
                        rounds[work][kind].append(result)
    figures = {
        work: {kind: summary(results) for kind, results in kinds.items()}
        for work, kinds in rounds.items()
    }
    return {
        "options": vars(options),
        "machine": machine(),
        "figures": figures,
        "ratios": {work: ratios(kinds) for work, kinds in figures.items()},
        "rounds": rounds,
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Least, median and greatest of each figure."""
    names = ("deliveries_per_s", "server_cpu_us_per_delivery", "server_core_share")
    figures: dict[str, Any] = {name: spread(r[name] for r in results) for name in names}
    figures["messages_per_read"] = spread(r["messages_per_read"] for r in results)
    figures["load_core_share"] = spread(r["load"]["core_share"] for r in results)
    for name in ("p50", "p99", "max"):
        if results[0]["load"]["latency_ms"]:
            figures[f"{name}_ms"] = spread(r["load"]["latency_ms"][name] for r in results)
    figures["complete_rounds"] = sum(result["is_complete"] for result in results)
    figures["rounds"] = len(results)
    return figures


def ratios(kinds: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The first to the second, of the medians."""
    first, second = kinds.values()
    return {
        name: first[name]["median"] / second[name]["median"]
        for name, value in first.items()
        if isinstance(value, dict) and second[name]["median"]
    }


def table(result: dict[str, Any]) -> str:
    """The result for people: median (least-greatest)."""
    lines = []
    for work, kinds in result["figures"].items():
        heads = "".join(f"{SERVERS[kind]:>30}" for kind in kinds)
        lines.append(f"\n{work:30}{heads}{'/'.join(kinds):>11}")
        for name, ratio in result["ratios"][work].items():
            cells = "".join(f"{_cell(kinds[kind][name]):>30}" for kind in kinds)
            lines.append(f"  {name:28}{cells}{ratio:11.2f}")
        whole = "".join(
            f"{kinds[kind]['complete_rounds']:>26} / {kinds[kind]['rounds']}"
            for kind in kinds
        )
        lines.append(f"  {'every message, in order':28}{whole}")
    return "\n".join(lines)


def _cell(value: Spread) -> str:
    form = ",.0f" if value["max"] >= 1000 else ".3g"
    least, middle, greatest = (format(value[n], form) for n in ("min", "median", "max"))
    return f"{middle} ({least}-{greatest})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--servers",
        nargs=2,
        choices=SERVERS,
        default=_DEFAULT,
        metavar="SERVER",
        help=f"the two that are compared, of {', '.join(SERVERS)}",
    )
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100, help="bytes of a payload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--rate", type=int, default=50, help="paced: messages a second")
    parser.add_argument("--seconds", type=float, default=5, help="paced: length of a round")
    parser.add_argument("--chunk", type=int, default=100, help="messages in a pipeline")
    parser.add_argument(
        "--ours",
        type=int,
        default=40_000,
        help="unthrottled: messages to ours, and to live",
    )
    parser.add_argument(
        "--bare", type=int, default=200, help="unthrottled: messages to bare"
    )
    options = parser.parse_args()
    if len(set(options.servers)) < 2:
        parser.error("a server is compared with another one")
    options.messages = {
        kind: options.bare if kind == "bare" else options.ours for kind in options.servers
    }
    return options


def _name(servers: list[str]) -> str:
    return "fanout" if servers == _DEFAULT else "-".join(["fanout", *servers])


if __name__ == "__main__":
    _result = measure(_options())
    print(table(_result))
    _used = _result["options"]
    print("\nwritten to", save(_name(_used["servers"]), _used["loop"], _result))
