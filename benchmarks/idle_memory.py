"""What an idle connection costs: an authenticated ``websocket_pubsub`` handler that
listens to one channel, a connection of the live endpoint with three subscriptions (two
channels that all have, and one of its own), and a bare aiohttp WebSocket handler.

``python -m benchmarks.idle_memory`` prints KiB per connection and writes
``results/idle_memory.json``. Each round starts a new server process, opens some sockets as
a rehearsal (imports, pools and caches are not a connection's), then opens the ones that
count. USS, the pages that are the process's own, is the figure; RSS and PSS stand beside.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from redis_pubsub.testing import RedisServer

from .processes import Child, database, machine, memory_kb, save, spread
from .server import TOKEN

SERVERS = {"ours": "ours-auth", "live": "live", "bare": "bare"}
_CHANNELS = ["shared:a", "shared:b", "own:{index}"]
_REHEARSAL = 100
_CONNECT_TIMEOUT_S = 120.0
_SETTLE_S = 1.5


def per_connection_kb(
    kind: str, loop: str, sockets: int, environment: dict[str, str]
) -> dict[str, float]:
    """KiB that each of so many connections added to a new server."""
    live = _CHANNELS if kind == "live" else None
    with (
        Child("benchmarks.server", kind, loop, environment=environment) as server,
        Child("benchmarks.load") as load,
    ):
        before = _memory_with(server, load, _REHEARSAL, live)
        after = _memory_with(server, load, sockets, live)
    return {name: (after[name] - before[name]) / sockets for name in before}


def _memory_with(
    server: Child, load: Child, more: int, live: list[str] | None
) -> dict[str, int]:
    """Open more sockets and let the server come to rest."""
    load.ask(
        _CONNECT_TIMEOUT_S,
        do="connect",
        port=server.hello["port"],
        sockets=more,
        token=TOKEN,
        live=live,
    )
    server.ask(do="collect")
    time.sleep(_SETTLE_S)
    return memory_kb(server.pid)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of all, in turn."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SERVERS}
    with RedisServer() as redis, database() as environment:
        environment["REDIS_URL"] = redis.url
        for _ in range(options.rounds):
            for name, kind in SERVERS.items():
                rounds[name].append(
                    per_connection_kb(kind, options.loop, options.sockets, environment)
                )
    figures = {
        name: {kind: spread(r[kind] for r in results) for kind in ("uss", "pss", "rss")}
        for name, results in rounds.items()
    }
    return {
        "options": vars(options),
        "machine": machine(),
        "kb_per_connection": figures,
        "ratios": {
            name: kinds["uss"]["median"] / figures["bare"]["uss"]["median"]
            for name, kinds in figures.items()
        },
        "rounds": rounds,
    }


def table(result: dict[str, Any]) -> str:
    """The result for people: median (least-greatest)."""
    lines = [f"{'KiB per idle connection':26}{'uss':>22}{'pss':>22}{'rss':>22}"]
    for name, kinds in result["kb_per_connection"].items():
        cells = "".join(
            f"{'{median:.1f} ({min:.1f}-{max:.1f})'.format_map(value):>22}"
            for value in kinds.values()
        )
        lines.append(f"  {name:24}{cells}")
    lines += [
        f"  {name + '/bare':24}{result['ratios'][name]:22.2f}" for name in ("ours", "live")
    ]
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    return parser.parse_args()


if __name__ == "__main__":
    _result = measure(_options())
    print(table(_result))
    print("\nwritten to", save("idle_memory", _result["options"]["loop"], _result))
