"""What a scenario needs, running: database, Redis, proxy, site, writer, clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from redis_pubsub.testing import RedisServer
from tests.processes import ROOT, Process, free_port
from tests.sentinels import Sentinels
from tests.services import Database, has_postgres, postgres, postgres_again

from .checker import Checker, Verdict
from .control import tell
from .ledger import read

_GUNICORN = (
    *("-m", "gunicorn", "redis_pubsub.contrib.websockets.deploy:application"),
    *("--worker-class", "aiohttp.worker.GunicornWebWorker", "--no-control-socket"),
)
QUIET_S = 1.5
"""So long nothing new must have been written down before the ledgers are read."""


@dataclass(frozen=True)
class Plan:
    """How a stand is set up.

    Attributes:
        off: Names of mechanisms that are switched off.
        relays: Relay processes besides the workers.
        writer_env: Environment of the writer alone; ``relay_env`` of the relays.
        proxied: A fault proxy is between everybody and Redis.
        replica: A second Redis follows the first.
        sentinel: It does, and three sentinels watch them; everybody asks those.
        redis: Further arguments of Redis; ``keep`` lets it keep its data.
        held: Share of transactions that stay open for 0.3 s.
    """

    off: tuple[str, ...] = ()
    proxied: bool = False
    replica: bool = False
    sentinel: bool = False
    relays: int = 0
    writer_env: dict[str, str] = field(default_factory=dict)
    relay_env: dict[str, str] = field(default_factory=dict)
    worker_env: dict[str, str] = field(default_factory=dict)
    redis: tuple[str, ...] = ()
    keep: bool = False
    held: float = 0.04
    workers: int = 2
    clients: int = 60
    channels: int = 12
    channels_each: int = 5
    rate: float = 50.0
    threads: int = 4


class Databases:
    """Fresh databases with the site's tables; on PostgreSQL where there is one."""

    def __init__(self, home: Path, server: Database | None) -> None:
        self._home = home
        self._server = server
        self._restarted = contextlib.ExitStack()
        self._template = self._named("template")
        if server is not None:
            self._run("CREATE DATABASE template_chaos")
            self._template["NAME"] = "template_chaos"
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_DATABASE": json.dumps(self._template),
            "REDIS_URL": "memory://",
        }
        command = [sys.executable, "-m", "django", "migrate", "-v", "0"]
        subprocess.run(command, cwd=ROOT, env=env, check=True)

    @property
    def is_postgres(self) -> bool:
        return self._server is not None

    def fresh(self, name: str) -> Database:
        database = self._named(name)
        if self._server is not None:
            self._run(f"CREATE DATABASE {database['NAME']} TEMPLATE template_chaos")
        else:
            shutil.copy(self._template["NAME"], database["NAME"])
        return database

    def drop(self, database: Database) -> None:
        if self._server is not None:
            self._run(f"DROP DATABASE IF EXISTS {database['NAME']} WITH (FORCE)")
        else:
            Path(database["NAME"]).unlink(missing_ok=True)

    def restart(self) -> None:
        """The server is killed, as far as its clients can tell, and started again."""
        assert self._server is not None, "SQLite has no server"
        home = Path(self._server["HOST"])
        pid = int((home / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        end = time.monotonic() + 20
        while is_alive(pid):
            assert time.monotonic() < end, "PostgreSQL does not end"
            time.sleep(0.05)
        time.sleep(1)
        self._restarted.enter_context(postgres_again(home))

    def close(self) -> None:
        self._restarted.close()

    def _named(self, name: str) -> Database:
        if self._server is not None:
            return {**self._server, "NAME": f"chaos_{name}"}
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self._home / f"{name}.sqlite3"),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }

    def _run(self, statement: str) -> None:
        with connect(self._server or {}, "postgres") as connection:
            connection.execute(statement)


def connect(database: Database, name: str = "") -> Any:
    """A connection to a PostgreSQL."""
    import psycopg

    return psycopg.connect(
        host=database["HOST"],
        user=database["USER"],
        dbname=name or database["NAME"],
        autocommit=True,
    )


@contextlib.contextmanager
def databases(home: Path) -> Iterator[Databases]:
    if not has_postgres():
        yield Databases(home, None)
        return
    with postgres() as server:
        bases = Databases(home, server)
        with contextlib.closing(bases):
            yield bases


class Stand:
    """One run. Use as ``with``; a scenario's fault gets it."""

    def __init__(self, home: Path, bases: Databases, plan: Plan, seed: int) -> None:
        self.home = home
        self.plan = plan
        self.seed = seed
        self.port = free_port()
        self.redis_port = free_port()
        self.proxy_port = free_port()
        self._bases = bases
        self._stack = contextlib.ExitStack()
        self._control: dict[str, str] = {}
        self._writers: list[Process] = []
        self.relays: list[Process] = []
        self.servers: list[RedisServer] = []
        self.problems: list[str] = []
        self._redis: dict[int, Any] = {}
        self._unfinished = 0

    # -- set up ----------------------------------------------------------------------

    def __enter__(self) -> Stand:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        plan = self.plan
        self.home.mkdir(parents=True, exist_ok=True)
        self._sockets = self._stack.enter_context(short_directory())
        self.database = self._bases.fresh(f"run_{uuid.uuid4().hex[:8]}")
        self._stack.callback(self._bases.drop, self.database)
        self.add_redis(self.redis_port, plan.redis, keep=plan.keep)
        if plan.replica or plan.sentinel:
            self._add_replica()
        url = self.servers[0].url
        if plan.sentinel:
            url = self._start_sentinels()
        if plan.proxied:
            self._start_proxy()
            url = f"redis://127.0.0.1:{self.proxy_port}/0"
        self.env = {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "CHAOS_DATABASE": json.dumps(self.database),
            "CHAOS_MODELS": "tests.chaos.site.models",
            "CHAOS_OFF": ",".join(plan.off),
            "REDIS_URL": url,
        }
        self.start_site()
        for _ in range(plan.relays):
            self.start_relay()
        self._start_clients()

    def add_redis(
        self, port: int, arguments: tuple[str, ...] = (), *, keep: bool = False
    ) -> RedisServer:
        options = ("--port", str(port), "--bind", "127.0.0.1")
        options += ("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0")
        directory = self.home / f"redis-{len(self.servers)}"
        server = RedisServer(directory, keep=keep, arguments=(*options, *arguments))
        server.start()
        self._stack.callback(server.stop)
        self.servers.append(server)
        return server

    def _add_replica(self) -> None:
        # Before anybody writes: a master has another replication id once it is followed.
        self.replica_port = free_port()
        follow = ("--replicaof", f"127.0.0.1 {self.redis_port}")
        self.add_redis(self.replica_port, follow)
        end = time.monotonic() + 10
        while self.redis(1).info("replication")["master_link_status"] != "up":
            assert time.monotonic() < end, "the replica does not follow"
            time.sleep(0.05)

    def _start_sentinels(self) -> str:
        """The URL by which everybody finds the master."""
        self.sentinels = self._stack.enter_context(Sentinels(self.home, self.redis_port))
        if "sentinel" in self.plan.off:
            return f"redis://127.0.0.1:{self.redis_port}/0"
        return self.sentinels.url

    def redis(self, index: int = 0) -> Any:
        """A connection of our own to one of the Redis servers, past the proxy."""
        if index not in self._redis:
            path = str(self.servers[index].path)
            self._redis[index] = Redis(unix_socket_path=path, socket_timeout=20)
            self._stack.callback(self._redis[index].close)
        return self._redis[index]

    def _process(
        self, *command: str, env: dict[str, str] | None = None, **options: Any
    ) -> Process:
        return self._stack.enter_context(
            Process(*command, env={**self.env, **(env or {})}, **options)
        )

    def _start_proxy(self) -> None:
        self._control["proxy"] = str(self._sockets / "proxy")
        self._proxy = self._stack.enter_context(
            Process(
                *("-m", "tests.chaos.faultproxy"),
                *(str(self.proxy_port), self._control["proxy"]),
                env={},
            )
        )
        self._proxy.wait_for("ready")
        self.aim(0)

    def start_site(self) -> None:
        self.site = self._process(
            *_GUNICORN,
            *("--bind", f"127.0.0.1:{self.port}", "-w", str(self.plan.workers)),
            env=self.plan.worker_env,
        )
        self.site.wait_for("Booting worker", times=self.plan.workers)
        self.site.wait_for_port(self.port)

    def start_relay(self) -> None:
        relay = self._process("-m", "django", "pubsub_relay", env=self.plan.relay_env)
        relay.wait_for("Relaying")
        self.relays.append(relay)

    client_options: dict[str, Any] = {}

    def _start_clients(self) -> None:
        self._control["clients"] = str(self._sockets / "clients")
        plan = self.plan
        options = {
            "port": self.port,
            "ledger": str(self.home / "clients.jsonl"),
            "control": self._control["clients"],
            "clients": plan.clients,
            "channels": plan.channels,
            "channels_each": plan.channels_each,
            "seed": self.seed,
            **self.client_options,
        }
        self.clients = self._process("-m", "tests.chaos.clients", json.dumps(options))
        self.clients.wait_for("ready")
        end = time.monotonic() + 20
        while self.tell("clients", do="status")["waiting"]:
            assert time.monotonic() < end, self.site.output[-5000:]
            time.sleep(0.1)

    def start_writer(self, *, may_die: bool = True) -> Process:
        plan = self.plan
        is_postgres = self._bases.is_postgres
        options = {
            "ledger": str(self.home / "writer.jsonl"),
            "channels": plan.channels,
            "rate": plan.rate,
            # SQLite has one writer at a time, so threads would only wait.
            "threads": plan.threads if is_postgres else 1,
            "held": plan.held,
            "seed": self.seed + 10 * len(self._writers),
        }
        env = plan.writer_env if may_die else {}
        writer = self._process("-m", "tests.chaos.writer", json.dumps(options), env=env)
        self._writers.append(writer)
        writer.wait_for("writing")
        return writer

    # -- for faults ------------------------------------------------------------------

    def tell(self, whom: str, **command: Any) -> Any:
        return tell(self._control[whom], **command)

    def proxy(self, do: str, **options: Any) -> Any:
        return self.tell("proxy", do=do, **options)

    def run_beside(self, *command: str) -> Process:
        """A process of the site's that ends by itself."""
        return self._process(*command)

    def aim(self, index: int) -> None:
        """Let the proxy's new connections go to another Redis."""
        self.proxy("target", target=str(self.servers[index].path))

    def workers(self) -> list[int]:
        """Process ids of the site's workers."""
        return children(self.site.pid)

    def mind_writer(self, for_s: float) -> int:
        """Start the writer again whenever it was killed; how often that was."""
        end, deaths = time.monotonic() + for_s, 0
        while time.monotonic() < end:
            if not self._writers[-1].is_alive:
                deaths += 1
                self.start_writer()
            time.sleep(0.05)
        if self._writers[-1].is_alive:
            self._writers[-1].end()
        self.start_writer(may_die=False)
        return deaths

    def mind_relays(self, for_s: float) -> int:
        """The same for relays."""
        end, deaths = time.monotonic() + for_s, 0
        while time.monotonic() < end:
            for relay in [each for each in self.relays if not each.is_alive]:
                deaths += 1
                self.relays.remove(relay)
                self.start_relay()
            time.sleep(0.05)
        return deaths

    def restart_database(self) -> None:
        self._bases.restart()

    # -- the end -----------------------------------------------------------------------

    def finish(self, longest_s: float) -> None:
        """Stop writing, and wait until every client is where the others are."""
        for writer in self._writers:
            if writer.is_alive:
                writer.end()
        end = time.monotonic() + longest_s
        path, size, since = self.home / "clients.jsonl", -1, time.monotonic()
        while time.monotonic() < end:
            pubs = _deliveries(path)
            status = self.tell("clients", do="status")
            if pubs != size or status["waiting"] or status["apart"]:
                size, since = pubs, time.monotonic()
            elif time.monotonic() - since > QUIET_S and not self._waiting():
                break
            time.sleep(0.2)
        self._unfinished = self.tell("clients", do="status")["waiting"]
        (self.home / "site.log").write_text(self.site.output)
        self.clients.end()

    def _waiting(self) -> int:
        """Messages in the outbox."""
        return int(self._query("SELECT count(*) FROM redis_pubsub_outboxmessage")[0][0])

    def _query(self, statement: str) -> list[Any]:
        if self._bases.is_postgres:
            with connect(self.database) as connection:
                return list(connection.execute(statement).fetchall())
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.database["NAME"])) as connection:
            return connection.execute(statement).fetchall()

    rows = (
        "SELECT c.name, r.key FROM chaos_site_row r"
        " JOIN redis_pubsub_channel c ON c.id = r.channel_id"
    )

    @property
    def promises_commit_order(self) -> bool:
        """Of transactions whose publications may overlap."""
        return "outbox" not in self.plan.off

    def verdict(self, fault: tuple[float, float]) -> Verdict:
        return Checker(
            self._query(self.rows),
            read(self.home / "writer.jsonl"),
            read(self.home / "clients.jsonl"),
            fault=fault,
            is_strict=self.promises_commit_order,
            unfinished=self._unfinished,
        ).verdict()


def _deliveries(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(b'"pub"' in line or b'"state"' in line for line in lines)


def children(pid: int) -> list[int]:
    """Ids of a process's children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, rest = status.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(status.parent.name))
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """For unix sockets, whose paths have room for about 100 bytes."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        yield Path(name)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
