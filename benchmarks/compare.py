"""All peers, workload by workload: ``python -m benchmarks.compare A B C``.

Prints a table and writes ``results/compare-<workload>.json`` for each. Wall times are of a
machine that may have other things to do: read the ratios, and the CPU per delivery, which
is the kernel's accounting of all processes of a server; its Redis stands beside it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .peers import PEERS, ROOT
from .processes import machine, save, spread
from .workloads import WORKLOADS, Options, Outcome

SIZES = {
    "smoke": {
        "rounds": 3,
        "sockets": 500,
        "storm": 500,
        "idle": 1000,
        "paced_s": 2.0,
        "idle_s": 10.0,
    },
    "full": {
        "rounds": 7,
        "sockets": 1000,
        "storm": 2000,
        "idle": 10_000,
        "paced_s": 5.0,
        "idle_s": 60.0,
    },
}
_FIGURES = (
    "deliveries_per_s",
    "cpu_us_per_delivery",
    "redis_cpu_us_per_delivery",
    "wire_bytes_per_delivery",
    "deliveries_per_read",
    "server_core_share",
    "load_core_share",
    "save_p50_ms",
    "save_p99_ms",
    "saves_per_s",
    "cpu_us_per_save",
    "requests_per_s",
    "cpu_us_per_request",
    "connects_per_s",
    "connects_per_cpu_s",
    "cpu_us_per_connect",
    "redis_cpu_us_per_connect",
    "kb_per_connection",
    "rss_kb_per_connection",
    "cpu_ms_per_1000_and_minute",
)


@contextmanager
def site(users: int) -> Iterator[dict[str, str]]:
    """The environment of servers and publishers: a database with users and tokens."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {"BENCHMARK_DATABASE": str(Path(directory) / "site.sqlite3")}
        subprocess.run(
            [sys.executable, "-m", "benchmarks.site.prepare", str(users)],
            check=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        yield environment


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Least, median and greatest of each figure."""
    first = rounds[0]
    figures: dict[str, Any] = {
        name: spread(each[name] for each in rounds) for name in _FIGURES if name in first
    }
    for name in first.get("latency_ms", {}):
        figures[f"{name}_ms"] = spread(each["latency_ms"].get(name, 0) for each in rounds)
    figures["complete_rounds"] = sum(each["is_complete"] for each in rounds)
    figures["rounds"] = len(rounds)
    return figures


def result(
    workload: str, outcome: Outcome, names: list[str], options: Options
) -> dict[str, Any]:
    """Everything worth keeping of a workload."""
    told = {name: value for name, value in asdict(options).items() if name != "environment"}
    return {
        "workload": workload,
        "about": (WORKLOADS[workload].__doc__ or "").strip(),
        "command": " ".join(["python -m benchmarks.compare", *sys.argv[1:]]),
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "options": told,
        "machine": machine(),
        "peers": {
            name: {
                "title": PEERS[name].title,
                "settings": PEERS[name].settings,
                "versions": PEERS[name].versions(),
            }
            for name in names
        },
        "missing": {name: why for name, peer in PEERS.items() if (why := peer.missing())},
        "failures": outcome.failures,
        "figures": {name: summary(rounds) for name, rounds in outcome.rounds.items()},
        "rounds": outcome.rounds,
    }


def table(told: dict[str, Any]) -> str:
    """For people: median (least-greatest) of what says most."""
    shown = [
        "deliveries_per_s",
        "cpu_us_per_delivery",
        "redis_cpu_us_per_delivery",
        "p50_ms",
        "p99_ms",
        "save_p50_ms",
        "saves_per_s",
        "requests_per_s",
        "cpu_us_per_request",
        "connects_per_cpu_s",
        "kb_per_connection",
        "cpu_ms_per_1000_and_minute",
        "load_core_share",
    ]
    figures = told["figures"]
    names = [n for n in shown if any(n in each for each in figures.values())]
    width = max(18, *map(len, figures))
    lines = ["", f"{told['about'].splitlines()[0]}"]
    lines.append(" " * width + "".join(f"{name:>30}" for name in names) + "  complete")
    for peer, each in figures.items():
        cells = "".join(f"{cell(each[n]) if n in each else '-':>30}" for n in names)
        whole = f"{each['complete_rounds']}/{each['rounds']}"
        lines.append(f"{peer:{width}}{cells}{whole:>10}")
    for kind in ("failures", "missing"):
        lines += [f"{peer:18}{kind}: {why[:150]}" for peer, why in told[kind].items()]
    return "\n".join(lines)


def cell(value: dict[str, float]) -> str:
    """Median (least-greatest)."""
    form = ",.0f" if value["max"] >= 1000 else ".3g"
    least, middle, greatest = (format(value[n], form) for n in ("min", "median", "max"))
    return f"{middle} ({least}-{greatest})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", default=list(WORKLOADS), metavar="WORKLOAD",
        help=f"of {', '.join(WORKLOADS)}; all by default",
    )  # fmt: skip
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--size", choices=SIZES, default="smoke")
    for name in ("rounds", "sockets", "storm", "idle"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--paced-s", type=float)
    parser.add_argument("--idle-s", type=float)
    parser.add_argument("--suffix", default="", help="of the results' names")
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    return arguments


def main() -> None:
    arguments = _arguments()
    # Ended by a signal, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    sizes: dict[str, Any] = dict(SIZES[arguments.size])
    sizes |= {n: given for n in sizes if (given := getattr(arguments, n)) is not None}
    names = [name for name in arguments.peers if not PEERS[name].missing()]
    with site(max(sizes["storm"], sizes["idle"]) + 1000) as environment:
        options = Options(**sizes, environment=environment)
        for workload in arguments.workloads:
            print(f"{workload} …", flush=True)
            outcome = WORKLOADS[workload](
                names, options, lambda line: print(line, flush=True)
            )
            told = result(workload, outcome, names, options)
            print(table(told), flush=True)
            name = f"compare-{workload}{arguments.suffix}"
            print("written to", save(name, "asyncio", told), flush=True)


if __name__ == "__main__":
    main()
