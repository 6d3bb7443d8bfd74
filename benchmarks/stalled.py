"""Whether one client that never reads delays the others: paced rounds with and without it.

``python -m benchmarks.stalled`` prints p50 and p99 of the other clients and their ratio,
and writes ``results/stalled.json``. Rounds alternate in one run.
"""

from __future__ import annotations

import argparse
import socket
from contextlib import ExitStack
from typing import Any

from .fanout import Bench
from .processes import database, machine, save, spread

_HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SUBSCRIBE = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}'


def stalled_client(port: int) -> socket.socket:
    """A subscribed live client that reads nothing more."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(_HANDSHAKE)
    client.sendall(bytes([0x81, 0x80 | len(_SUBSCRIBE)]) + b"\0\0\0\0" + _SUBSCRIBE)
    client.recv(1024)
    return client


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds without and with the stalled client, in turn; the first is a rehearsal."""
    rounds: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    count = int(options.rate * options.seconds)
    with ExitStack() as stack:
        bench = Bench("live", options, stack.enter_context(database()), stack)
        bench.round(count, options.rate)
        for _ in range(options.rounds):
            rounds["without"].append(bench.round(count, options.rate))
            with stalled_client(bench.server.hello["port"]):
                rounds["with"].append(bench.round(count, options.rate))
    figures = {
        name: {
            each: spread(result["load"]["latency_ms"][each] for result in results)
            for each in ("p50", "p99")
        }
        for name, results in rounds.items()
    }
    return {
        "options": vars(options),
        "machine": machine(),
        "latency_ms": figures,
        "ratio": {
            each: figures["with"][each]["median"] / figures["without"][each]["median"]
            for each in ("p50", "p99")
        },
        "slow_disconnects": rounds["with"][-1]["server"]["counters"].get(
            "slow_disconnects", 0
        ),
        "is_complete": all(r["is_complete"] for each in rounds.values() for r in each),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=100)
    parser.add_argument("--size", type=int, default=40_000, help="bytes of a payload")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=50, help="messages a second")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    return parser.parse_args()


if __name__ == "__main__":
    _result = measure(_options())
    for _name, _figures in _result["latency_ms"].items():
        print(f"{_name:8}", {k: round(v["median"], 2) for k, v in _figures.items()}, "ms")
    print("ratio   ", {k: round(v, 2) for k, v in _result["ratio"].items()})
    print("complete", _result["is_complete"], "closed", _result["slow_disconnects"])
    print("written to", save("stalled", _result["options"]["loop"], _result))
