"""The tables and plots of docs/topics/performance.rst, from the results.

``python -m benchmarks.report`` reads ``results/compare-*.json`` and writes
``docs/topics/performance/*.inc``, and, where matplotlib is installed, ``*.svg``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .processes import RESULTS, ROOT

PLACE = ROOT / "docs" / "topics" / "performance"
Result = dict[str, Any]

_COLUMNS: dict[str, list[tuple[str, str]]] = {
    "A": [
        ("deliveries_per_s", "Deliveries/s"),
        ("cpu_us_per_delivery", "Server CPU, µs a delivery"),
        ("redis_cpu_us_per_delivery", "Redis, µs"),
    ],
    "B": [
        ("cpu_us_per_delivery", "Server CPU, µs a delivery"),
        ("redis_cpu_us_per_delivery", "Redis, µs"),
        ("p50_ms", "p50, ms"),
        ("p99_ms", "p99, ms"),
    ],
    "D": [
        ("save_p50_ms", "A save, p50, ms"),
        ("saves_per_s", "Saves/s"),
        ("cpu_us_per_save", "CPU, µs a save"),
        ("p50_ms", "Save to client, p50, ms"),
        ("p99_ms", "p99, ms"),
    ],
    "E": [
        ("connects_per_cpu_s", "Connects a CPU second"),
        ("connects_per_s", "Connects/s"),
        ("p99_ms", "p99, ms"),
    ],
    "F": [
        ("kb_per_connection", "KiB a connection"),
        ("cpu_ms_per_1000_and_minute", "CPU ms, 1,000 sockets, a minute"),
    ],
    "H": [
        ("requests_per_s", "Requests/s"),
        ("cpu_us_per_request", "Server CPU, µs a request"),
        ("cpu_us_per_delivery", "Server CPU, µs a delivery"),
        ("p99_ms", "p99, ms"),
    ],
}
_COLUMNS |= {
    "A1K": _COLUMNS["A"],
    "C": [*_COLUMNS["A"], ("p99_ms", "p99, ms")],
    "CP": _COLUMNS["B"],
    "EJ": _COLUMNS["E"],
    "I": _COLUMNS["B"],
}

Target = tuple[str, str, str, str, float, bool]
"""Figure, ours, other, in words, wanted ratio, whether more is better."""
_TARGETS: dict[str, list[Target]] = {
    "A": [
        ("deliveries_per_s", "live", "nats", "deliveries/s, NATS'", 2, True),
        (
            "deliveries_per_s",
            "live",
            "channels-uvicorn",
            "deliveries/s, Channels'",
            300,
            True,
        ),
    ],
    "B": [
        ("cpu_us_per_delivery", "live", "picows", "CPU a delivery, picows'", 1.15, False),
        (
            "cpu_us_per_delivery",
            "live",
            "channels-uvicorn",
            "CPU a delivery, Channels'",
            1 / 15,
            False,
        ),
        ("p99_ms", "live", "nats", "p99, NATS'", 1, False),
    ],
    "C": [
        (
            "cpu_us_per_delivery",
            "live",
            "channels-uvicorn",
            "CPU a delivery, Channels'",
            0.5,
            False,
        ),
        ("cpu_us_per_delivery", "live", "ws", "CPU a delivery, Node's", 1.2, False),
    ],
    "CP": [
        ("cpu_us_per_delivery", "live", "ws", "CPU a delivery, Node's", 1.2, False),
        ("p99_ms", "live", "ws", "p99, Node's", 1, False),
    ],
    "D": [
        (
            "save_p50_ms",
            "live: direct, paced",
            "live: silent, paced",
            "a save, one that publishes nothing",
            1.15,
            False,
        ),
        (
            "save_p50_ms",
            "live: outbox, paced",
            "live: silent, paced",
            "a save with the outbox, one that publishes nothing",
            1.5,
            False,
        ),
        (
            "p50_ms",
            "live: direct, paced",
            "channels-uvicorn: signal, paced",
            "p50 from save to client, Channels'",
            0.2,
            False,
        ),
    ],
    "E": [
        (
            "connects_per_cpu_s",
            "live",
            "channels-uvicorn",
            "connects a CPU second, Channels'",
            3,
            True,
        )
    ],
    "EJ": [
        (
            "connects_per_cpu_s",
            "live",
            "channels-uvicorn",
            "connects a CPU second, Channels'",
            4,
            True,
        )
    ],
    "F": [
        ("kb_per_connection", "live", "channels-uvicorn", "memory, Channels'", 0.5, False)
    ],
    "H": [
        (
            "requests_per_s",
            "ours: bare page",
            "gthread: bare page",
            "bare pages, gthread's",
            1.3,
            True,
        ),
        (
            "requests_per_s",
            "ours: list page",
            "gthread: list page",
            "list pages, gthread's",
            1.0,
            True,
        ),
        (
            "p99_ms",
            "ours: B beside pages",
            "ours: B alone",
            "p99 of B beside pages, alone",
            2,
            False,
        ),
    ],
}


def load(folder: Path = RESULTS) -> dict[str, Result]:
    """The results there are, by workload."""
    found = {}
    for path in sorted(folder.glob("compare-*.json")):
        result = json.loads(path.read_text())
        if path.stem == f"compare-{result['workload']}":
            found[result["workload"]] = result
    return found


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread_cell(value: dict[str, float]) -> str:
    """Median, and the least and greatest beside it."""
    middle, least, most = (number(value[name]) for name in ("median", "min", "max"))
    return f"**{middle}** ({least}–{most})"


def rst_table(heads: list[str], rows: Iterable[list[str]]) -> str:
    """A list table."""
    lines = [".. list-table::", "    :header-rows: 1", ""]
    for row in [heads, *rows]:
        for place, text in enumerate(row):
            lines.append(f"    {'* -' if not place else '  -'} {text}".rstrip())
    return "\n".join(lines) + "\n"


def workload_table(result: Result) -> str:
    """Peers and figures of one workload."""
    figures = result["figures"]
    columns = [
        (name, head)
        for name, head in _COLUMNS[result["workload"]]
        if any(name in each for each in figures.values())
    ]
    rows = []
    for peer, each in figures.items():
        title = result["peers"].get(peer, {}).get("title", peer)
        cells = [spread_cell(each[n]) if n in each else "–" for n, _ in columns]
        rows.append([title, *cells, f"{each['complete_rounds']} of {each['rounds']}"])
    told = rst_table(["", *(head for _, head in columns), "Whole rounds"], rows)
    for peer, why in result["failures"].items():
        told += f"\n``{peer}`` failed: {why.splitlines()[0][:160]}\n"
    return f"{about(result)}\n\n{told}"


def about(result: Result) -> str:
    """When, how much, and on what."""
    options, machine = result["options"], result["machine"]
    return (
        f"Measured {result['measured_at']} on {machine['cores']} cores, load average "
        f"{machine['load_average'][0]:.1f} at the end; {options['rounds']} rounds, "
        f"{options['sockets']:,} sockets (storm {options['storm']:,}, idle "
        f"{options['idle']:,})."
    )


def ratio_rows(results: dict[str, Result]) -> list[list[str]]:
    """What was wanted, and what came of it: ratios of medians of the same run."""
    rows = []
    for workload, targets in _TARGETS.items():
        figures = results.get(workload, {}).get("figures", {})
        for name, ours, other, words, wanted, more in targets:
            mine, theirs = figures.get(ours, {}).get(name), figures.get(other, {}).get(name)
            if not mine or not theirs or not theirs["median"]:
                continue
            ratio = mine["median"] / theirs["median"]
            is_met = ratio >= wanted if more else ratio <= wanted
            sign = "≥" if more else "≤"
            reached = "yes" if is_met else "**no**"
            asked = f"{sign} {number(wanted)} ×"
            rows.append([workload, words, asked, f"{number(ratio)} ×", reached])
    return rows


def version_rows(results: dict[str, Result]) -> list[list[str]]:
    """Every peer with its settings and versions."""
    peers: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for result in results.values():
        peers |= result["peers"]
        missing |= result["missing"]
    rows = []
    for told in peers.values():
        versions = ", ".join(f"{n} {v}" for n, v in told["versions"].items())
        rows.append([told["title"], told["settings"], versions])
    return [*rows, *([name, why, "missing"] for name, why in missing.items())]


def write_tables(results: dict[str, Result]) -> None:
    """All ``.inc`` files."""
    for workload in _COLUMNS:
        told = "Not measured yet.\n"
        if workload in results:
            told = workload_table(results[workload])
            if (PLACE / f"{workload}.svg").exists():
                told += f"\n.. image:: performance/{workload}.svg\n    :alt: As a plot\n"
        (PLACE / f"{workload}.inc").write_text(told)
    heads = ["", "Ours to", "Wanted", "Measured", "Reached"]
    (PLACE / "ratios.inc").write_text(rst_table(heads, ratio_rows(results)))
    heads = ["Peer", "Settings", "Versions"]
    (PLACE / "versions.inc").write_text(rst_table(heads, version_rows(results)))


# -- plots -----------------------------------------------------------------------------


def _bars(result: Result, name: str, title: str, *, is_log: bool) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        figures = {p: f for p, f in result["figures"].items() if name in f}
        titles = [result["peers"][peer]["title"] for peer in figures]
        middles = [each[name]["median"] for each in figures.values()]
        errors = [
            [each[name]["median"] - each[name]["min"] for each in figures.values()],
            [each[name]["max"] - each[name]["median"] for each in figures.values()],
        ]
        colours = ["#b3372e" if "pubsub" in t or "same" in t else "#8a9aa8" for t in titles]
        axes.barh(titles, middles, xerr=errors, color=colours, ecolor="#333333", capsize=2)
        axes.invert_yaxis()
        axes.set_title(title)
        if is_log:
            axes.set_xscale("log")

    return draw


def _growth(result: Result) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        lines: dict[str, list[tuple[int, float]]] = {}
        for key, rounds in result["rounds"].items():
            first = rounds[0]
            if first["channels"] == first["workers"] == 1 and key.endswith("burst"):
                middle = result["figures"][key]["cpu_us_per_delivery"]["median"]
                lines.setdefault(key.split(":")[0], []).append((first["sockets"], middle))
        for peer, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=peer)
        axes.set_title("CPU a delivery in a burst, µs, by sockets")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.legend()

    return draw


def write_plots(results: dict[str, Result]) -> bool:
    """All ``.svg`` files; whether matplotlib is there."""
    PLACE.mkdir(parents=True, exist_ok=True)
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    from matplotlib import pyplot

    drawn = {
        "A": ("deliveries_per_s", "Deliveries a second (logarithmic)", True),
        "B": ("cpu_us_per_delivery", "Server CPU, µs a delivery", True),
        "C": ("cpu_us_per_delivery", "Server CPU, µs a delivery", True),
        "E": ("connects_per_cpu_s", "Connects a CPU second", False),
        "F": ("kb_per_connection", "KiB a connection", False),
    }
    plots = {
        workload: _bars(results[workload], name, title, is_log=is_log)
        for workload, (name, title, is_log) in drawn.items()
        if workload in results
    }
    if "I" in results:
        plots["I"] = _growth(results["I"])
    for workload, draw in plots.items():
        figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        draw(axes)
        figure.savefig(PLACE / f"{workload}.svg", metadata={"Date": None})
        pyplot.close(figure)
    return True


if __name__ == "__main__":
    _results = load()
    if not write_plots(_results):
        print("no plots: pip install django-redis-pubsub[bench]")
    write_tables(_results)
    print("tables:", ", ".join(_results) or "none")
