"""The workloads: what is asked of every peer, in turn, and what is noted of it.

Each workload starts its peers, gives every one a rehearsal, and then goes through them
round by round, so that a noisy minute of the machine hits all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.services import postgres

from .generator import ask_pages
from .peers import GTHREAD, PEERS, Peer
from .running import Running

Note = Callable[[str], None]
Rounds = dict[str, list[dict[str, Any]]]
_NEWS = ["news"]
_ROUND_S = 1.5
"""How long an unthrottled round should be at least: long enough for many loop turns."""
_CALIBRATIONS = 8
_WITHIN_S = 120.0


@dataclass(frozen=True)
class Options:
    """How much of everything.

    Attributes:
        rounds: That count; a rehearsal comes before.
        sockets: Of the workloads that name 1,000.
        storm: Sockets of the connect storm.
        idle: Idle sockets.
        paced_s: Length of a paced round.
        idle_s: How long idle sockets are watched.
        environment: For servers and publishers.
    """

    rounds: int
    sockets: int
    storm: int
    idle: int
    paced_s: float
    idle_s: float
    environment: dict[str, str]


class Outcome:
    """What came of a workload.

    Attributes:
        rounds: By peer.
        failures: Of peers that could not do it, why.
    """

    def __init__(self, note: Note) -> None:
        self.rounds: Rounds = {}
        self.failures: dict[str, str] = {}
        self._note = note

    def add(self, peer: str, round_: dict[str, Any]) -> None:
        self.rounds.setdefault(peer, []).append(round_)

    @contextmanager
    def trying(self, peer: str) -> Iterator[None]:
        """A peer that fails is reported, and the others go on."""
        try:
            yield
        except Exception as error:
            self.failures[peer] = f"{type(error).__name__}: {error}"[:600]
            self._note(f"{peer} failed: {self.failures[peer]}")


def _started(
    names: list[str], options: Options, outcome: Outcome, stack: ExitStack
) -> dict[str, Running]:
    running = {}
    for name in names:
        with outcome.trying(name):
            running[name] = stack.enter_context(Running(PEERS[name], options.environment))
    return running


def _in_turn(
    running: dict[str, Running],
    options: Options,
    outcome: Outcome,
    one: Callable[[str, Running], dict[str, Any]],
) -> None:
    for _ in range(options.rounds):
        for name, server in running.items():
            if name not in outcome.failures:
                with outcome.trying(name):
                    outcome.add(name, one(name, server))


def _calibrated(server: Running, channels: list[str], size: int) -> int:
    """How many messages make an unthrottled round; a rehearsal on the way."""
    messages = max(1, 20 // len(channels))
    for _ in range(_CALIBRATIONS):
        took_s = _least_s(server, channels, messages, size)
        if took_s >= _ROUND_S / 2:
            break
        messages = int(messages * max(2, min(10, _ROUND_S / max(took_s, 0.01))))
    return max(1, int(messages * max(1, _ROUND_S / took_s)))


def _least_s(server: Running, channels: list[str], messages: int, size: int) -> float:
    """How long a round takes, at best: one that is slow may be so by the machine's mood."""
    least = float("inf")
    for _ in range(2):
        seen = server.round(channels, messages, size=size, within_s=_WITHIN_S)
        least = min(least, seen["took_s"])
    return least


def _unthrottled(
    names: list[str],
    options: Options,
    note: Note,
    *,
    sockets: int,
    subscribed: list[str],
    channels: list[str],
    size: int = 100,
) -> Outcome:
    outcome = Outcome(note)
    with ExitStack() as stack:
        running = _started(names, options, outcome, stack)
        counts = {}
        for name, server in running.items():
            with outcome.trying(name):
                server.connect(sockets, subscribed)
                counts[name] = _calibrated(server, channels, size)
                note(f"  {name}: {counts[name]} messages a round")

        def one(name: str, server: Running) -> dict[str, Any]:
            return server.round(channels, counts[name], size=size, within_s=_WITHIN_S)

        _in_turn(running, options, outcome, one)
    return outcome


def _paced(
    names: list[str],
    options: Options,
    note: Note,
    *,
    sockets: int,
    subscribed: list[str],
    channels: list[str],
    rate: float,
    chunk: int = 1,
) -> Outcome:
    outcome = Outcome(note)
    messages = max(1, int(rate * options.paced_s / len(channels)))
    with ExitStack() as stack:
        running = _started(names, options, outcome, stack)

        def one(name: str, server: Running) -> dict[str, Any]:
            return server.round(
                channels, messages, rate=rate, chunk=chunk, within_s=_WITHIN_S
            )

        for name, server in running.items():
            with outcome.trying(name):
                server.connect(sockets, subscribed)
                one(name, server)
        _in_turn(running, options, outcome, one)
    return outcome


# -- the workloads ------------------------------------------------------------------------


def broadcast(names: list[str], options: Options, note: Note, size: int = 100) -> Outcome:
    """A: one channel, as fast as it goes."""
    return _unthrottled(
        names,
        options,
        note,
        sockets=options.sockets,
        subscribed=_NEWS,
        channels=_NEWS,
        size=size,
    )


def broadcast_1k(names: list[str], options: Options, note: Note) -> Outcome:
    """A with messages of 1 KB."""
    return broadcast(names, options, note, size=1024)


def broadcast_paced(names: list[str], options: Options, note: Note) -> Outcome:
    """B: one channel, 50 messages a second."""
    return _paced(
        names,
        options,
        note,
        sockets=options.sockets,
        subscribed=_NEWS,
        channels=_NEWS,
        rate=50,
    )


def _own(options: Options) -> list[str]:
    return [f"own{index}" for index in range(options.sockets)]


def own_channels(names: list[str], options: Options, note: Note) -> Outcome:
    """C: a channel for each socket, as fast as it goes."""
    return _unthrottled(
        names,
        options,
        note,
        sockets=options.sockets,
        subscribed=["own{index}"],
        channels=_own(options),
    )


def own_channels_paced(names: list[str], options: Options, note: Note) -> Outcome:
    """C: a channel for each socket, 3,000 messages a second on all together; ten share a
    round trip of the publisher, where it has such a thing."""
    return _paced(
        names,
        options,
        note,
        sockets=options.sockets,
        subscribed=["own{index}"],
        channels=_own(options),
        rate=3000,
        chunk=10,
    )


_THREE = ["shared1", "shared2", "mine{index}"]


def _storm(
    names: list[str], options: Options, note: Note, tokens: dict[str, str]
) -> Outcome:
    outcome = Outcome(note)
    with ExitStack() as stack:
        running = _started(names, options, outcome, stack)

        def one(name: str, server: Running) -> dict[str, Any]:
            before, redis_before = server.cpu_s()
            told = server.connect(options.storm, _THREE, tokens[name])
            used, redis = server.cpu_s()
            server.load.drop()
            time.sleep(2.0)  # the clients are gone before the next come
            return {
                "sockets": options.storm,
                "took_s": told["took_s"],
                "connects_per_s": options.storm / told["took_s"],
                "connects_per_cpu_s": options.storm / (used - before),
                "cpu_us_per_connect": (used - before) / options.storm * 1e6,
                "redis_cpu_us_per_connect": (redis - redis_before) / options.storm * 1e6,
                "load_core_share": told["cpu_s"] / told["took_s"],
                "latency_ms": told["latency_ms"],
                "is_complete": told["connected"] == options.storm,
            }

        for name, server in running.items():
            with outcome.trying(name):
                one(name, server)
        _in_turn(running, options, outcome, one)
    return outcome


def connect_storm(names: list[str], options: Options, note: Note) -> Outcome:
    """E: sockets with a token that is looked up in the database, and 3 subscriptions."""
    able = [name for name in names if PEERS[name].can_authenticate]
    tokens = dict.fromkeys(able, "benchmark-token-{index}")
    return _storm(able, options, note, tokens)


def connect_storm_jwt(names: list[str], options: Options, note: Note) -> Outcome:
    """E with signed tokens, for which no database is asked."""
    from .site.tokens import our_token, simplejwt_token

    able = [name for name in names if PEERS[name].can_authenticate]
    tokens = {
        name: our_token() if PEERS[name].is_ours else simplejwt_token() for name in able
    }
    return _storm(able, options, note, tokens)


def idle(names: list[str], options: Options, note: Note) -> Outcome:
    """F: sockets with 3 subscriptions that do nothing; with a token where it has been
    written."""
    outcome = Outcome(note)
    rehearsal = 200
    # Memory is not noise of the machine: fewer rounds, each with a new server.
    for _ in range(max(1, options.rounds // 2)):
        for name in names:
            with (
                outcome.trying(name),
                Running(PEERS[name], options.environment) as server,
            ):
                peer: Peer = server.peer
                token = "benchmark-token-{index}" if peer.can_authenticate else ""
                channels = (
                    _THREE if peer.can_authenticate else ["news1", "news2", "own{index}"]
                )
                server.connect(rehearsal, channels, token)
                time.sleep(2.0)
                before = server.memory_kb()
                server.connect(options.idle, channels, token, within_s=300)
                time.sleep(2.0)
                after = server.memory_kb()
                started, (used, _) = time.monotonic(), server.cpu_s()
                # The clients' process answers pings meanwhile.
                time.sleep(options.idle_s)
                watched_s = time.monotonic() - started
                share = (server.cpu_s()[0] - used) / watched_s
                kb = {kind: (after[kind] - before[kind]) / options.idle for kind in after}
                sockets = (options.idle + rehearsal) / 1000
                outcome.add(
                    name,
                    {
                        "sockets": options.idle,
                        "kb_per_connection": kb["uss"],
                        "rss_kb_per_connection": kb["rss"],
                        "cpu_ms_per_1000_and_minute": share * 60_000 / sockets,
                        "is_complete": True,
                    },
                )
    return outcome


# -- rows ----------------------------------------------------------------------------------

_SAVES_A_SECOND = 5
"""What the slowest peer can send to a thousand sockets."""
_KINDS = {
    "live": ("silent", "direct", "outbox"),
    "channels-uvicorn": ("silent", "signal"),
}


def rows(names: list[str], options: Options, note: Note) -> Outcome:
    """D: rows saved to PostgreSQL, with the settings it comes with, and heard by sockets:
    five saves a second, and one after the other."""
    outcome = Outcome(note)
    able = {name: _KINDS[name] for name in names if name in _KINDS}
    paced = max(20, int(_SAVES_A_SECOND * options.paced_s))
    with ExitStack() as stack:
        running = _started(list(able), options, outcome, stack)
        databases = {
            name: json.dumps(stack.enter_context(postgres(is_durable=True)))
            for name in running
        }
        for name, server in running.items():
            with outcome.trying(name):
                server.connect(options.sockets, _SAVED)
        for number in range(-1, options.rounds):
            for name, server in running.items():
                for kind in able[name]:
                    for pace, rate in (("paced", _SAVES_A_SECOND), ("unthrottled", 0)):
                        key = f"{name}: {kind}, {pace}"
                        with outcome.trying(key):
                            seen = server.save(
                                kind,
                                *_SAVED,
                                paced if rate else 50,
                                database=databases[name],
                                rate=rate,
                                within_s=_WITHIN_S,
                            )
                            if number >= 0:
                                outcome.add(key, seen)
    return outcome


_SAVED = ["saved"]

# -- pages ---------------------------------------------------------------------------------

_PAGES = {
    "bare page": ("/bare", True),
    "bare page, new connections": ("/bare", False),
    "list page": ("/users", True),
    "list page, new connections": ("/users", False),
}
_PAGE_CLIENTS = 16


def _ask_pages(server: Running, path: str, keeps: bool, seconds: float) -> dict[str, Any]:
    used, _ = server.cpu_s()
    asking = ask_pages(
        server.start.port, path, clients=_PAGE_CLIENTS, keeps=keeps, seconds=seconds
    )
    seen = json.loads(asking.communicate(timeout=seconds + 60)[0])
    cpu = server.cpu_s()[0] - used
    return {
        "requests_per_s": seen["requests"] / seen["took_s"],
        "cpu_us_per_request": cpu / max(1, seen["requests"]) * 1e6,
        "load_core_share": seen["cpu_s"] / seen["took_s"],
        "latency_ms": {"p50": seen["p50"], "p99": seen["p99"]},
        "is_complete": not seen["failed"] and seen["requests"] > 0,
    }


def pages(names: list[str], options: Options, note: Note) -> Outcome:
    """H: Django's pages from the process that serves sockets, and from gunicorn's gthread
    worker; and workload B alone and while pages are asked for."""
    outcome = Outcome(note)
    seconds = options.paced_s
    with ExitStack() as stack:
        ours = [name for name in names if PEERS[name].is_ours and "live" not in name]
        running = _started(ours, options, outcome, stack)
        with outcome.trying(GTHREAD.name):
            running[GTHREAD.name] = stack.enter_context(
                Running(GTHREAD, options.environment)
            )
        for name in ours:
            running[name].connect(options.sockets, _NEWS)
            running[name].round(_NEWS, 10, rate=50)
        for server in running.values():
            for path, keeps in _PAGES.values():
                _ask_pages(server, path, keeps, 0.5)
        for _ in range(options.rounds):
            for title, (path, keeps) in _PAGES.items():
                for name, server in running.items():
                    key = f"{name}: {title}"
                    with outcome.trying(key):
                        outcome.add(key, _ask_pages(server, path, keeps, seconds))
            for name in ours:
                with outcome.trying(name):
                    alone, beside = _beside_pages(running[name], seconds)
                    outcome.add(f"{name}: B alone", alone)
                    outcome.add(f"{name}: B beside pages", beside)
    return outcome


def _beside_pages(server: Running, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Workload B alone, and while list pages are asked for; each as long as the other."""
    messages = int(50 * seconds)
    alone = server.round(_NEWS, messages, rate=50, within_s=_WITHIN_S)
    asking = ask_pages(
        server.start.port, "/users", clients=4, keeps=True, seconds=seconds + 1
    )
    beside = server.round(_NEWS, messages, rate=50, within_s=_WITHIN_S)
    asking.communicate(timeout=_WITHIN_S)
    # The pages' CPU is in the server's: a delivery's own cannot be told from it.
    del beside["cpu_us_per_delivery"], beside["server_core_share"]
    return alone, beside


# -- growth --------------------------------------------------------------------------------


def growth(names: list[str], options: Options, note: Note) -> Outcome:
    """I: what a delivery costs as sockets, channels and workers grow: 50 messages a second
    on all channels together, and as fast as it goes."""
    outcome = Outcome(note)
    most = options.idle
    sizes = [n for n in (500, 1_000, 2_000, 5_000, 10_000) if n <= most]
    points = [(n, 1, 1) for n in sizes]
    points += [(1_000, channels, 1) for channels in (10, 100, 1_000)]
    points += [(1_000, 1, 2)]
    able = [name for name in names if name in _GROWING]
    for sockets, channels, workers in points:
        for name in able:
            if workers > 1 and not PEERS[name].can_multiply:
                continue
            key = f"{name}: {sockets} sockets, {channels} channels, {workers} workers"
            with (
                outcome.trying(key),
                Running(PEERS[name], options.environment, workers=workers) as server,
            ):
                listed = [f"news{index}" for index in range(channels)]
                server.connect(sockets, [f"news{{index%{channels}}}"], within_s=300)
                count = _calibrated(server, listed, 100)
                paced = max(1, int(50 * options.paced_s / channels))
                # Every channel gets a message: with many, more than 50 a second.
                rate = max(50.0, channels / options.paced_s)
                server.round(listed, paced, rate=rate, within_s=_WITHIN_S)
                for _ in range(options.rounds):
                    burst = server.round(listed, count, within_s=_WITHIN_S)
                    calm = server.round(listed, paced, rate=rate, within_s=_WITHIN_S)
                    where = {"sockets": sockets, "channels": channels, "workers": workers}
                    outcome.add(f"{key}, burst", burst | where)
                    outcome.add(f"{key}, paced", calm | where)
    return outcome


_GROWING = ("live", "ours", "channels-uvicorn", "nats")

WORKLOADS: dict[str, Callable[[list[str], Options, Note], Outcome]] = {
    "A": broadcast,
    "A1K": broadcast_1k,
    "B": broadcast_paced,
    "C": own_channels,
    "CP": own_channels_paced,
    "D": rows,
    "E": connect_storm,
    "EJ": connect_storm_jwt,
    "F": idle,
    "H": pages,
    "I": growth,
}
