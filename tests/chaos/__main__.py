"""``python -m tests.chaos [NAME …]``: run scenarios and their twins, write the results.

``--channels`` runs R1 and W1 with Django Channels. ``--results`` is added to, so that
scenarios may be run one by one; ``python -m tests.chaos.report`` makes the page's table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import scenarios
from .channels_stand import ChannelsStand, CoreStand, install
from .scenarios import SCENARIOS, Scenario, complaints, has_bitten, pace, run
from .stand import Databases, databases


def main() -> int:
    options = _options()
    pace.factor = scenarios.LENGTH["short" if options.short else "full"]
    pace.patience = options.patience
    results: dict[str, Any] = {}
    if options.results.exists():
        results = json.loads(options.results.read_text())
    is_bad = False
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        home = Path(options.keep or directory)
        with databases(home) as bases:
            is_all = options.all or not options.channels
            names = options.names or (SCENARIOS if is_all else [])
            for name in names:
                found = _all_seeds(name, SCENARIOS[name], home, bases, options)
                is_bad = is_bad or bool(found["complaints"])
                results[name] = {**results.get(name, {}), **found}
                _write(options.results, results)
            if options.channels or options.all:
                results["channels"] = _compare(home, bases)
                _write(options.results, results)
    return int(is_bad)


def _write(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def _compare(home: Path, bases: Databases) -> dict[str, Any]:
    """The same with Django Channels; there is nothing it must show."""
    problem = install()
    if problem:
        print(problem)
        return {"skipped": problem}
    found = {}
    for stand_class in (ChannelsStand, CoreStand):
        for name in ("R1", "W1"):
            began = time.monotonic()
            scenario = SCENARIOS[name]
            if stand_class is CoreStand and name == "R1":
                # This layer subscribes to nothing: it waits in blocking reads.
                scenario = replace(scenario, fault=scenarios.cut_connections)
            layer = stand_class.layer.split(".")[1]
            verdict, _ = run(
                scenario, home / f"{name}-{layer}", bases, stand_class=stand_class
            )
            found[f"{name}-{layer}"] = verdict.as_dict()
            _say(name, f" with Channels ({layer})", verdict, "", began)
    return found


def _all_seeds(
    name: str, scenario: Scenario, home: Path, bases: Databases, options: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"title": scenario.title, "complaints": [], "runs": []}
    length_s = 2.5 if options.short else 8.0
    if not options.twins_only:
        for seed in range(1, options.seeds + 1):
            began = time.monotonic()
            verdict, problems = run(
                scenario,
                home / f"{name}-{seed}",
                bases,
                seed=seed,
                before_s=length_s,
                after_s=max(length_s, scenario.heal_s),
            )
            wrong = complaints(scenario, verdict) + problems
            load = round(os.getloadavg()[0], 1)
            found["runs"].append({**verdict.as_dict(), "load": load})
            found["complaints"] += wrong
            _say(name, "", verdict, wrong or "ok", began)
    else:
        del found["runs"], found["complaints"]
    if scenario.off and not options.no_twins:
        began = time.monotonic()
        verdict, _ = run(
            scenario,
            home / f"{name}-twin",
            bases,
            before_s=3,
            after_s=4,
            quiet_s=5,
            off=scenario.off,
        )
        bitten = has_bitten(scenario, verdict)
        found["twin"] = {"off": scenario.off, "bites": bitten, **verdict.as_dict()}
        if not bitten:
            found.setdefault("complaints", []).append("the twin does no harm")
        _say(name, " without " + ", ".join(scenario.off), verdict, bitten, began)
    found.setdefault("complaints", [])
    return found


def _say(name: str, what: str, verdict: Any, wrong: Any, began: float) -> None:
    figures = {k: v for k, v in verdict.as_dict().items() if v}
    took_s = time.monotonic() - began
    print(f"{name}{what}: {wrong} {figures} [{took_s:.0f} s]", flush=True)


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--patience", type=float, default=1.0, metavar="FACTOR")
    parser.add_argument("--no-twins", action="store_true")
    parser.add_argument("--twins-only", action="store_true")
    parser.add_argument("--channels", action="store_true")
    parser.add_argument("--all", action="store_true", help="scenarios and Channels")
    parser.add_argument("--keep", help="a directory for ledgers and logs")
    parser.add_argument("--results", type=Path, default=Path("chaos.json"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
