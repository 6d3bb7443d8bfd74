"""What it costs that not everybody sees the same: audiences beside a plain channel.

``python -m benchmarks.audiences`` prints a table and writes ``results/audiences.json``. The
same payloads go to as many sockets: as the bytes their publisher encoded, and as rows that
are rendered once for each of 1, 10 and 1,000 audiences. The servers take turns in one run;
read the CPU and the ratios. The work of an audience is done once a message, the work of a
socket once a socket and loop turn, so what matters is how many sockets share an audience.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from .fanout import Bench, summary
from .processes import database, machine, save

PLAIN = "ours"
_FIGURES = ("deliveries_per_s", "server_cpu_us_per_delivery", "p50_ms", "p99_ms")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the first of each is a rehearsal and left out."""
    kinds = [PLAIN, *(f"audience-{keys}" for keys in options.keys)]
    works = {
        "paced": dict.fromkeys(kinds, (options.paced, options.rate)),
        "burst": {
            kind: (options.burst if kind == PLAIN else _burst(kind, options), 0)
            for kind in kinds
        },
    }
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
        work: {kind: [] for kind in kinds} for work in works
    }
    with ExitStack() as stack:
        environment = stack.enter_context(database())
        benches = {kind: Bench(kind, options, environment, stack) for kind in kinds}
        for work, amounts in works.items():
            for number in range(options.rounds + 1):
                for kind, bench in benches.items():
                    result = bench.round(*amounts[kind])
                    if number:
                        rounds[work][kind].append(result)
    figures = {
        work: {kind: summary(results) for kind, results in found.items()}
        for work, found in rounds.items()
    }
    return {
        "options": vars(options),
        "machine": machine(),
        "figures": figures,
        "cpu_per_delivery_to_plain": {
            work: {kind: _cpu(found[kind]) / _cpu(found[PLAIN]) for kind in kinds}
            for work, found in figures.items()
        },
        "rounds": rounds,
    }


def _burst(kind: str, options: argparse.Namespace) -> int:
    """Fewer than a lane holds: what is measured is rendering, not giving up."""
    keys = int(kind.removeprefix("audience-"))
    return max(20, min(options.burst, 900, 20_000 // keys))


def _cpu(figures: dict[str, Any]) -> float:
    cpu: float = figures["server_cpu_us_per_delivery"]["median"]
    return cpu


def table(result: dict[str, Any]) -> str:
    """The result for people: medians."""
    lines = []
    for work, kinds in result["figures"].items():
        lines.append(f"\n{work:16}" + "".join(f"{name:>28}" for name in _FIGURES))
        for kind, figures in kinds.items():
            cells = (
                f"{figures[name]['median']:28,.2f}" if name in figures else f"{'-':>28}"
                for name in _FIGURES
            )
            ratio = result["cpu_per_delivery_to_plain"][work][kind]
            whole = f"{figures['complete_rounds']}/{figures['rounds']}"
            lines.append(f"{kind:16}{''.join(cells)}   CPU x {ratio:.2f}   {whole}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--size", type=int, default=100, help="bytes of a payload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--keys", type=int, nargs="+", default=[1, 10, 1000])
    parser.add_argument("--rate", type=int, default=5, help="paced: messages a second")
    parser.add_argument("--paced", type=int, default=25, help="paced: messages of a round")
    parser.add_argument("--burst", type=int, default=900, help="burst: messages at once")
    parser.add_argument("--chunk", type=int, default=100, help="messages in a pipeline")
    return parser.parse_args()


if __name__ == "__main__":
    _result = measure(_options())
    print(table(_result))
    print("\nwritten to", save("audiences", _result["options"]["loop"], _result))
