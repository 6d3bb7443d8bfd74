"""The faults, and for each what has to be switched off so that it does harm."""

from __future__ import annotations

import functools
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .checker import MUST_BE_ZERO, Verdict
from .stand import Databases, Plan, Stand, stopped

_PLAN = Plan()


@dataclass(frozen=True)
class Scenario:
    """One fault under load.

    Attributes:
        title: For the table.
        fault: What happens; returns when it is over.
        plan: What runs.
        off: What the twin switches off, besides what the plan does.
        harm: Figures of which at least one is above zero then.
        codes: Close codes that clients may see.
        heal_s: How soon after the fault every client must have everything.
        may_fail_http: Whether requests may fail: somebody kills who answers them.
        may_fail_saves: Whether transactions may raise.
        red_within_s: ``/readyz`` must be red so soon after the fault began; 0 for no claim.
    """

    title: str
    fault: Callable[[Stand], None]
    plan: Plan = _PLAN
    off: tuple[str, ...] = ()
    harm: tuple[str, ...] = ("lost",)
    codes: tuple[str, ...] = ()
    heal_s: float = 5.0
    may_fail_http: bool = False
    may_fail_saves: bool = False
    red_within_s: float = 0.0


LENGTH = {"full": 1.0, "short": 0.35}
"""How long faults last, of what they last in the full form."""


class Pace:
    """How long things take in this run.

    Attributes:
        factor: How long faults last, of what they last in the full form.
        patience: How much longer healing may take: what is measured alone on a machine is
            not what it takes beside other tests.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self.patience = 1.0


pace = Pace()

ALL_LOAD_S = 8.0
"""How soon all is well where every client has to load its state: on a quiet machine two or
three seconds, on one that is busy with something else more."""


def wait(seconds: float) -> None:
    time.sleep(seconds)


def times(count: int) -> range:
    """A fault's repetitions: fewer in the short form."""
    return range(max(2, round(count * pace.factor)))


# -- Redis -------------------------------------------------------------------------------


def kill_subscribers(stand: Stand) -> None:
    redis = stand.redis()
    for _ in times(8):
        redis.client_kill_filter(_type="pubsub")
        wait(1)


def cut_connections(stand: Stand) -> None:
    redis = stand.redis()
    for _ in times(8):
        redis.client_kill_filter(_type="pubsub")
        redis.client_kill_filter(_type="normal", skipme=True)
        wait(1)


def refuse_connections(stand: Stand) -> None:
    """Cut, and refused for as long as some rows take to be saved: with luck a connection is
    back before the next one."""
    redis = stand.redis()
    for _ in times(8):
        redis.config_set("maxclients", 1)
        redis.client_kill_filter(_type="pubsub")
        redis.client_kill_filter(_type="normal", skipme=True)
        wait(0.3)
        redis.config_set("maxclients", 1000)
        wait(0.7)


def overrun(stand: Stand) -> None:
    """A worker stands still while more is published than Redis keeps for it."""
    redis, worker = stand.redis(), stand.workers()[0]
    with stopped(worker):
        wait(0.5)
        for _ in range(45):
            redis.publish("chaos:{room:00}:live", b"x" * 1_000_000)
        wait(1)


def freeze(stand: Stand) -> None:
    with stopped(stand.servers[0].pid):
        wait(7)


def debug_sleep(stand: Stand) -> None:
    stand.redis().execute_command("DEBUG", "SLEEP", "3")


def hang(stand: Stand) -> None:
    stand.proxy("hang")
    wait(4)
    stand.proxy("ok")


def cut_network(stand: Stand) -> None:
    stand.proxy("blackhole")
    wait(2)
    stand.proxy("ok")


def lose_everything(stand: Stand) -> None:
    stand.servers[0].kill()
    wait(1.5)
    stand.servers[0].start()


def crash_with_file(stand: Stand) -> None:
    stand.servers[0].kill()
    wait(1)
    stand.servers[0].start()


def restart_with_snapshot(stand: Stand) -> None:
    stand.redis().save()
    stand.servers[0].kill()
    wait(1)
    stand.servers[0].start()


def fill(stand: Stand) -> None:
    redis = stand.redis()
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1")
    wait(3)
    redis.config_set("maxmemory", "0")


def fail_over(stand: Stand) -> None:
    """The replica lacks what the master said last, as one may that is behind."""
    replica = stand.redis(1)
    replica.replicaof("127.0.0.1", "1")
    wait(1)
    stand.servers[0].kill()
    wait(1)
    replica.replicaof("NO", "ONE")
    stand.aim(1)


def lose_master(stand: Stand) -> None:
    """Until the sentinels have promoted the replica; the rest is ours."""
    stand.servers[0].kill()
    stand.sentinels.wait_for_master(stand.replica_port)


def retire_master(stand: Stand) -> None:
    """Until the old master is a replica; it takes messages for some seconds more after
    there is a new one."""
    stand.sentinels.fail_over()
    stand.sentinels.wait_for_master(stand.replica_port)
    end = time.monotonic() + 30
    while stand.redis().info("replication")["role"] != "slave":
        assert time.monotonic() < end, "the old master stays one"
        wait(0.1)


def detach(stand: Stand) -> None:
    """Writers go to the new master; what is subscribed stays with the old one, which
    lives and says nothing."""
    replica = stand.redis(1)
    stand.proxy("hang")
    wait(0.3)
    replica.replicaof("NO", "ONE")
    stand.aim(1)
    stand.proxy("cut", kind="commands")
    stand.proxy("ok")


# -- processes and clients ---------------------------------------------------------------


def kill_workers(stand: Stand) -> None:
    for i in times(4):
        workers = stand.workers()
        os.kill(workers[i % len(workers)], signal.SIGKILL)
        wait(2.5)


def roll(stand: Stand, count: int = 3) -> None:
    """New workers for old, again and again."""
    for _ in times(count):
        before = set(stand.workers())
        stand.site.send(signal.SIGHUP)
        end = time.monotonic() + 60
        while before & set(stand.workers()):
            assert time.monotonic() < end, "the old workers do not end"
            wait(0.1)
        # Those that end have waited for the new ones, and not for ever.
        urllib.request.urlopen(f"http://127.0.0.1:{stand.port}/", timeout=20).close()


def restart_site(stand: Stand) -> None:
    """SIGTERM, and a new site at the same port."""
    for _ in times(2):
        assert stand.site.end() == 0, stand.site.output[-3000:]
        stand.start_site()
        wait(1.5)


def flap(stand: Stand) -> None:
    stand.tell("clients", do="flap", on=True)
    wait(12 * pace.factor)
    stand.tell("clients", do="flap", on=False)


def kill_writers(stand: Stand) -> None:
    deaths = stand.mind_writer(10 * max(pace.factor, 0.6))
    stand.problems += [] if deaths else ["no writer died"]


def kill_relays(stand: Stand) -> None:
    deaths = stand.mind_relays(12 * max(pace.factor, 0.6))
    stand.problems += [] if deaths else ["no relay died"]


def nothing(stand: Stand) -> None:
    wait(8 * pace.factor)


# -- database ----------------------------------------------------------------------------


def restart_database(stand: Stand) -> None:
    stand.restart_database()


_RELAYS = Plan(off=("commit",), relays=2)
_KILLED = ("1006",)

SCENARIOS: dict[str, Scenario] = {
    "R1": Scenario(
        "Redis cuts every subscriber, each second",
        kill_subscribers,
        off=("repair",),
        harm=("lost", "gaps"),
    ),
    "R3": Scenario(
        "A worker is behind by more than Redis keeps for it",
        overrun,
        off=("repair",),
        harm=("lost", "gaps"),
    ),
    "R4-stop": Scenario(
        "Redis stands still for 7 s", freeze, off=("outbox",), red_within_s=6.5
    ),
    "R4-sleep": Scenario("Redis is busy for 3 s", debug_sleep, off=("outbox",)),
    "R4-hang": Scenario(
        "The network holds everything for 4 s",
        hang,
        Plan(proxied=True),
        off=("outbox",),
    ),
    "R4-cut": Scenario(
        "The network forgets every connection, 2 s",
        cut_network,
        Plan(proxied=True),
        off=("probe",),
        heal_s=10.0,
    ),
    "R5": Scenario(
        "Redis is killed, and comes back empty after 1.5 s",
        lose_everything,
        off=("repair",),
        heal_s=ALL_LOAD_S,
        harm=("lost", "gaps"),
    ),
    "R6-aof": Scenario(
        "Redis is killed, and comes back with its append-only file",
        crash_with_file,
        Plan(keep=True, redis=("--appendonly", "yes")),
        off=("outbox",),
    ),
    "R6-rdb": Scenario(
        "Redis is restarted with a snapshot",
        restart_with_snapshot,
        Plan(keep=True),
        off=("outbox",),
    ),
    "R8": Scenario("Redis is full for 3 s", fill, off=("outbox",)),
    "F1": Scenario(
        "Redis is killed, a replica that lacks its last second takes over",
        fail_over,
        Plan(proxied=True, replica=True),
        # Either would do: the other epoch, or that clients are ahead of the history.
        off=("generation", "repair"),
        heal_s=ALL_LOAD_S,
    ),
    "R11": Scenario(
        "A replica takes over, subscriptions stay with the old master",
        detach,
        Plan(proxied=True, replica=True),
        off=("probe",),
        # Of these two seconds are silence, until a probe is sent.
        heal_s=ALL_LOAD_S,
    ),
    "R11-sentinel": Scenario(
        "With Sentinel the master is killed",
        lose_master,
        Plan(sentinel=True),
        off=("sentinel",),
        heal_s=ALL_LOAD_S,
    ),
    "R10": Scenario(
        "With Sentinel another master is chosen, the old one lives",
        retire_master,
        Plan(sentinel=True),
        off=("sentinel",),
    ),
    "W1": Scenario(
        "A worker is killed, every 2.5 s",
        kill_workers,
        off=("history",),
        codes=_KILLED,
        may_fail_http=True,
    ),
    "W2-hup": Scenario(
        "SIGHUP: new workers for old, again and again",
        roll,
        off=("history",),
        codes=("3001",),
    ),
    "W2x10": Scenario(
        "Ten rolling restarts in a row",
        functools.partial(roll, count=10),
        codes=("3001",),
    ),
    "W2-term": Scenario(
        "SIGTERM, then a new site at the port",
        restart_site,
        off=("history",),
        codes=("3001",),
        may_fail_http=True,
    ),
    "N8": Scenario("Each client is cut every 1 to 3 s", flap, off=("history",)),
    "P1": Scenario(
        "Publishers are killed between commit and publication",
        kill_writers,
        Plan(writer_env={"CHAOS_DIE": "commit:0.03"}),
        off=("outbox",),
    ),
    "D1": Scenario(
        "Rows are committed in another order than they were numbered",
        nothing,
        # One relay and no more: what it passes over, another would find.
        replace(
            _RELAYS,
            off=("commit", "serving"),
            relays=1,
            held=0.3,
            channels=4,
            channels_each=3,
        ),
        off=("cursor",),
    ),
    "D2": Scenario(
        "Two relays and two workers publish the same channels",
        nothing,
        replace(_RELAYS, channels=4, channels_each=3, rate=100.0),
        off=("lock", "fence", "dedupe"),
        harm=("reordered", "repeated", "gaps", "forked"),
    ),
    "D3": Scenario(
        "Relays are killed between publication and deletion",
        kill_relays,
        replace(_RELAYS, relay_env={"CHAOS_DIE": "publish:0.05"}),
        off=("dedupe",),
        harm=("repeated",),
    ),
    "R2": Scenario(
        "Redis cuts every connection and lets nobody in for 0.3 s, each second",
        refuse_connections,
        off=("outbox",),
    ),
    "D5": Scenario(
        "PostgreSQL is killed and restarted",
        restart_database,
        may_fail_saves=True,
        heal_s=10.0,
    ),
}


def run(
    scenario: Scenario,
    home: Path,
    bases: Databases,
    *,
    seed: int = 1,
    before_s: float = 8.0,
    after_s: float = 8.0,
    quiet_s: float = 20.0,
    off: tuple[str, ...] = (),
    stand_class: type[Stand] = Stand,
) -> tuple[Verdict, list[str]]:
    """Run a scenario.

    Returns:
        The verdict, and what else was wrong.
    """
    plan = replace(scenario.plan, off=(*scenario.plan.off, *off))
    with stand_class(home, bases, plan, seed) as stand:
        stand.start_writer()
        wait(before_s)
        began = time.monotonic()
        scenario.fault(stand)
        fault = (began, time.monotonic())
        wait(after_s)
        stand.finish(quiet_s)
        return stand.verdict(fault), stand.problems


def complaints(scenario: Scenario, verdict: Verdict) -> list[str]:
    """What a run must not have shown."""
    found = [
        f"{name}: {getattr(verdict, name)}"
        for name in MUST_BE_ZERO
        if getattr(verdict, name)
    ]
    longest_s = scenario.heal_s * pace.patience
    if verdict.heal_s is None or verdict.heal_s > longest_s:
        found.append(f"healed after {verdict.heal_s} s, not {longest_s}")
    odd = {c: n for c, n in verdict.codes.items() if c not in scenario.codes}
    if odd:
        found.append(f"close codes: {odd}")
    if verdict.http_errors and not scenario.may_fail_http:
        found.append(f"HTTP errors: {verdict.http_errors} of {verdict.http_requests}")
    if verdict.save_errors and not scenario.may_fail_saves:
        found.append(f"saves that raised: {verdict.save_errors}")
    red = verdict.red_after_s
    if scenario.red_within_s and (red is None or red > scenario.red_within_s):
        found.append(f"/readyz red after {red} s, not {scenario.red_within_s}")
    if not verdict.delivered:
        found.append("nothing was delivered")
    return found


def has_bitten(scenario: Scenario, verdict: Verdict) -> bool:
    """Whether a twin shows the harm."""
    return any(getattr(verdict, name) for name in scenario.harm)
