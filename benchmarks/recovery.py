"""Everybody comes back at once: clients of the live endpoint are cut off, miss messages,
reconnect together and recover; beside the same without recovery, in turn, in one run.

``python -m benchmarks.recovery`` prints a table and writes ``results/recovery.json``. The
clients have as many handshakes in flight as the server's accept queue takes, so it never
waits for them; they share the machine with it, so read the CPU and the ratios. ``again`` is
a return that asks for nothing: the price of recovery is what is above it.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

import redis

from redis_pubsub.broker import open_blocking
from redis_pubsub.messages import Draft, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions, ChannelOptions
from redis_pubsub.testing import RedisServer

from .payloads import payload
from .processes import Child, cpu_s, database, machine, save, spread

KINDS = {"recover": True, "again": False}
_HISTORY = ChannelOptions(history_size=200)
"""As the rule for these channels in the settings says."""
_WITHIN_S = 120.0
_FORGOTTEN_S = 2.5
"""After that a server hears no channel that nobody listens to, and keeps no log of it."""
_FIGURES = ("took_s", "server_cpu_s", "stream_reads", "script_calls")


class Bench:
    """Servers, clients and a publisher.

    Args:
        options: The command line.
        stack: Ends the processes.
    """

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._published = 0
        environment = stack.enter_context(database())
        url = environment["REDIS_URL"] = stack.enter_context(RedisServer()).url
        self._redis: Any = redis.Redis.from_url(url)
        self._broker = open_blocking(BrokerOptions(url=url), Metrics())
        self._channels = [f"room:{number}" for number in range(options.channels)]

        def start(module: str, *arguments: str) -> Child:
            child = Child(f"benchmarks.{module}", *arguments, environment=environment)
            return stack.enter_context(child)

        self._servers = [
            start("server", "live", options.loop) for _ in range(options.workers)
        ]
        self._clients = start("returning")
        came = self._clients.ask(
            _WITHIN_S,
            do="connect",
            ports=[server.hello["port"] for server in self._servers],
            clients=options.clients,
            channels=self._channels,
        )
        if came["errors"]:
            raise RuntimeError(f"the clients could not connect: {came['errors']}")

    def round(self, *, recovers: bool) -> dict[str, Any]:
        """Cut all, publish, let all come back."""
        self._clients.ask(do="cut")
        self._wait_until_left()
        first = self._publish()
        reads, calls, cpu = self._reads(), self._script_calls(), self._cpu_s()
        back = self._clients.ask(
            _WITHIN_S + 30,
            do="back",
            recovers=recovers,
            first=first,
            messages=self._options.messages,
            within_s=_WITHIN_S,
        )
        return {
            **back,
            "server_cpu_s": self._cpu_s() - cpu,
            "stream_reads": self._reads() - reads,
            "script_calls": self._script_calls() - calls,
            "is_complete": back["caught_up"] == back["clients"] and not back["errors"],
        }

    def _wait_until_left(self) -> None:
        while any(server.ask(do="counters")["connections"] for server in self._servers):
            time.sleep(0.05)
        time.sleep(_FORGOTTEN_S)

    def _publish(self) -> int:
        first, count = self._published, self._options.messages
        self._published += count
        for channel in self._channels:
            self._broker.publish(
                [
                    Draft(
                        channel, new_header(), payload(number, self._options.size), _HISTORY
                    )
                    for number in range(first, first + count)
                ]
            )
        return first

    def _reads(self) -> int:
        return sum(
            server.ask(do="counters")["counters"].get("history_reads", 0)
            for server in self._servers
        )

    def _script_calls(self) -> int:
        stats = self._redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))

    def _cpu_s(self) -> float:
        return sum(cpu_s(server.pid) for server in self._servers)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the first of each kind is a rehearsal and left out."""
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        bench = Bench(options, stack)
        for number in range(options.rounds + 1):
            for kind, recovers in KINDS.items():
                result = bench.round(recovers=recovers)
                if number:
                    rounds[kind].append(result)
    figures = {
        kind: {
            **{name: spread(each[name] for each in results) for name in _FIGURES},
            "load_core_share": spread(each["core_share"] for each in results),
            "complete_rounds": sum(each["is_complete"] for each in results),
            "rounds": len(results),
        }
        for kind, results in rounds.items()
    }
    return {
        "options": vars(options),
        "machine": machine(),
        "figures": figures,
        "ratios": {
            name: figures["recover"][name]["median"] / figures["again"][name]["median"]
            for name in _FIGURES
            if figures["again"][name]["median"]
        },
        "rounds": rounds,
    }


def table(result: dict[str, Any]) -> str:
    """The result for people: median (least-greatest)."""
    kinds = result["figures"]
    lines = [f"{'':28}{'recover':>26}{'again':>26}{'ratio':>8}"]
    for name in (*_FIGURES, "load_core_share"):
        cells = "".join(
            f"{'{median:.4g} ({min:.4g}-{max:.4g})'.format_map(kinds[kind][name]):>26}"
            for kind in kinds
        )
        ratio = result["ratios"].get(name)
        lines.append(f"  {name:26}{cells}" + (f"{ratio:8.2f}" if ratio else ""))
    whole = "".join(
        f"{kinds[kind]['complete_rounds']:>22} / {kinds[kind]['rounds']}" for kind in kinds
    )
    lines.append(f"  {'all, once, in order':26} {whole}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=1, help="clients are spread over")
    parser.add_argument("--messages", type=int, default=100, help="missed, of each channel")
    parser.add_argument("--size", type=int, default=100, help="bytes of a payload")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    if not 0 < options.messages <= _HISTORY.history_size:
        parser.error(f"a channel keeps {_HISTORY.history_size} messages")
    return options


def _name(options: dict[str, Any]) -> str:
    """``recovery``, and what is not at its default."""
    usual = {"clients": 1000, "channels": 1, "messages": 100, "size": 100, "workers": 1}
    unusual = [
        f"{options[name]}{name}" for name, value in usual.items() if options[name] != value
    ]
    return "-".join(["recovery", *unusual])


if __name__ == "__main__":
    _result = measure(_options())
    print(table(_result))
    _used = _result["options"]
    print("\nwritten to", save(_name(_used), _used["loop"], _result))
