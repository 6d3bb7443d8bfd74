"""``python -m tests.chaos.report RESULTS PAGE_PART``: results as the table of a page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = (
    *("Fault", "Rows", "Delivered", "Lost", "Repeated", "Reordered", "Told", "Healed, s"),
    *("Closes", "Switched off, it does harm"),
)
_HARM = ("lost", "repeated", "reordered", "gaps", "forked")


def table(rows: list[list[str]], head: tuple[str, ...], widths: str = "") -> str:
    """A ``list-table``."""
    lines = [".. list-table::", "    :header-rows: 1", f"    :widths: {widths}", ""]
    for row in (head, *rows):
        lines += [f"    {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def figures(run: dict[str, Any]) -> list[str]:
    codes = ", ".join(f"{code} ({n})" for code, n in sorted(run["codes"].items()))
    heal_s = run["heal_s"]
    return [
        f"{run['committed']:,}",
        f"{run['delivered']:,}",
        f"{run['lost']:,}",
        f"{run['repeated']:,}",
        f"{run['reordered']:,}",
        f"{run['told']:,}",
        "never" if heal_s is None else f"{heal_s:.1f}",
        codes or "none",
    ]


def _sum(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Several seeds as one: counts added, the longest time."""
    total = dict(runs[0])
    for run in runs[1:]:
        for name, value in run.items():
            if isinstance(value, int):
                total[name] += value
        for code, n in run["codes"].items():
            total["codes"][code] = total["codes"].get(code, 0) + n
        heals = (total["heal_s"], run["heal_s"])
        total["heal_s"] = None if None in heals else max(heals)
    return total


def _twin(found: dict[str, Any]) -> str:
    twin = found.get("twin")
    if twin is None:
        return "no twin"
    harm = [f"{twin[name]:,} {name}" for name in _HARM if twin[name]]
    return f"{', '.join(twin['off'])}: {', '.join(harm) or 'none'}"


def _circumstances(results: dict[str, Any]) -> str:
    """How often, and how busy the machine was: healing takes longer on a busy one."""
    runs = [found["runs"] for found in results.values() if found.get("runs")]
    seeds = sorted({len(each) for each in runs})
    loads = [run["load"] for each in runs for run in each if "load" in run]
    said = f"Seeds: {' or '.join(map(str, seeds))} each."
    if loads:
        said += f" Load of the machine meanwhile: {min(loads)} to {max(loads)}."
    return f"\n{said}\n"


def page(results: dict[str, Any]) -> str:
    ours = [
        [f"{name}: {found['title']}", *figures(_sum(found["runs"])), _twin(found)]
        for name, found in sorted(results.items())
        if name != "channels" and found.get("runs")
    ]
    parts = [table(ours, HEAD, "24 7 8 7 7 7 6 7 10 17"), _circumstances(results)]
    theirs = results.get("channels", {})
    if "skipped" not in theirs and theirs:
        rows = []
        for name, run in sorted(theirs.items()):
            fault, _, layer = name.partition("-")
            rows.append([fault, f"Channels, ``channels_redis.{layer}``", *figures(run)])
            if layer == "core":
                rows.append([fault, "this package", *figures(_sum(results[fault]["runs"]))])
        rows.sort()
        head = ("Fault", "With", *HEAD[1:-1])
        parts += ["", table(rows, head, "7 24 8 9 8 8 8 7 8 13")]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(json.loads(Path(sys.argv[1]).read_text())))
