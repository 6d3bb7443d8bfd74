"""Real database servers, private to the run: ``with postgres() as database: ...``.

Each lives in a directory of its own under the temporary directory, listens on a unix
socket there and nowhere else, and is stopped by its process id. What a test does with
the databases is the test's.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

START_S = 30.0
"""Seconds a server may take to accept a connection; it takes about two."""
STOP_S = 15.0
"""Seconds a server may take to stop before it is killed."""
POLL_S = 0.05

Database = dict[str, Any]
"""One value of Django's ``DATABASES``."""


def require(name: str, is_there: bool) -> None:
    """Skip a test for want of a server; where ``REQUIRE_SERVICES=1`` is set, fail it."""
    if is_there:
        return
    if os.environ.get("REQUIRE_SERVICES", "0") not in ("", "0"):
        pytest.fail(f"{name} is missing, and REQUIRE_SERVICES=1 asks for it")
    pytest.skip(f"{name} is not installed")


def has_postgres() -> bool:
    """Whether ``postgres()`` can start one."""
    return _has_module("psycopg") and _postgres_programs() is not None


def has_mariadb() -> bool:
    """Whether ``mariadb()`` can start one."""
    return _has_module("pymysql") and None not in map(_find, MARIADB_PROGRAMS)


@contextlib.contextmanager
def postgres(*, is_durable: bool = False) -> Iterator[Database]:
    """A PostgreSQL with an empty database.

    Args:
        is_durable: With the settings it comes with, as a measurement of commits needs;
            no test does.
    """
    require("PostgreSQL", has_postgres())
    import psycopg

    programs = _postgres_programs()
    account = _account("postgres")
    with _directory(account) as home:
        install = [f"{programs}/initdb", f"--pgdata={home / 'data'}", "--username=postgres"]
        install += ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        _run(install, account=account, home=home)
        with postgres_again(home, is_durable=is_durable):
            with psycopg.connect(
                host=str(home), user="postgres", dbname="postgres", autocommit=True
            ) as db:
                db.execute("CREATE DATABASE redis_pubsub")
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "redis_pubsub",
                "USER": "postgres",
                "HOST": str(home),
            }


@contextlib.contextmanager
def postgres_again(home: Path, *, is_durable: bool = False) -> Iterator[None]:
    """A server for what `postgres` has put into a directory, its ``HOST``."""
    import psycopg

    server = [f"{_postgres_programs()}/postgres", "-D", f"{home / 'data'}", "-k", f"{home}"]
    # A port could be another server's.
    options = ["listen_addresses="]
    if not is_durable:
        options += ["fsync=off", "full_page_writes=off"]
    for option in options:
        server += ["-c", option]

    def connect() -> psycopg.Connection:
        return psycopg.connect(host=str(home), user="postgres", dbname="postgres")

    # SIGTERM would wait until every client has gone.
    stop = signal.SIGQUIT
    account = _account("postgres")
    with _serving(server, account=account, home=home, stop=stop) as process:
        _first_connection(connect, psycopg.OperationalError, process, home).close()
        yield


@contextlib.contextmanager
def mariadb() -> Iterator[Database]:
    """A MariaDB with an empty database in utf8mb4."""
    require("MariaDB", has_mariadb())
    install_mysqldb()
    import pymysql

    installer, daemon = (f"{_find(program)}" for program in MARIADB_PROGRAMS)
    account = _account("mysql")
    with _directory(account) as home:
        install = [installer, "--no-defaults", f"--datadir={home / 'data'}"]
        install += ["--skip-test-db", "--auth-root-authentication-method=normal"]
        _run(install, account=account, home=home)
        server = [daemon, "--no-defaults", f"--datadir={home / 'data'}"]
        server += [f"--socket={home / 'socket'}", f"--pid-file={home / 'pid'}"]
        server += ["--skip-networking", "--character-set-server=utf8mb4"]
        # A test needs no durability.
        server += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]

        def connect() -> pymysql.Connection[Any]:
            return pymysql.connect(unix_socket=str(home / "socket"), user="root")

        with _serving(server, account=account, home=home) as process:
            with _first_connection(connect, pymysql.OperationalError, process, home) as db:
                db.cursor().execute("CREATE DATABASE redis_pubsub")
            yield {
                "ENGINE": "django.db.backends.mysql",
                "NAME": "redis_pubsub",
                "USER": "root",
                "HOST": str(home / "socket"),
            }


def install_mysqldb() -> None:
    """Let Django's MySQL backend find PyMySQL; nothing where that is not installed."""
    with contextlib.suppress(ImportError):
        import pymysql

        pymysql.install_as_MySQLdb()


# -- programs ----------------------------------------------------------------------------

MARIADB_PROGRAMS = ("mariadb-install-db", "mariadbd")


def _has_module(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _find(program: str) -> str | None:
    # Debian keeps servers where only root's PATH looks.
    return shutil.which(
        program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )


def _postgres_programs() -> Path | None:
    """Debian's newest, or whatever ``PATH`` has with ``initdb`` beside ``postgres``."""

    def version(directory: Path) -> int:
        digits = re.search(r"\d+", directory.parent.name)
        return int(digits[0]) if digits else 0

    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates = sorted(debian, key=version, reverse=True)
    candidates += [Path(folder) for folder in os.get_exec_path()]
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    return None


# -- processes ---------------------------------------------------------------------------


def _account(name: str) -> str | None:
    """Who runs the server: these refuse root, so then it is their own account."""
    return name if os.geteuid() == 0 else None


def _as_account(account: str | None) -> dict[str, Any]:
    """Options of ``subprocess``: root's own groups are left behind too."""
    if account is None:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _directory(account: str | None) -> Iterator[Path]:
    # A unix socket's path has room for 107 bytes, which macOS's temporary directory and
    # pytest's tmp_path come close to.
    root = "/tmp" if os.path.isdir("/tmp") else None
    home = Path(tempfile.mkdtemp(prefix="rp-", dir=root))
    try:
        if account is not None:
            shutil.chown(home, user=account)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(command: Sequence[str], *, account: str | None, home: Path) -> None:
    done = subprocess.run(
        command,
        **_as_account(account),
        cwd=home,
        env=os.environ | {"HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}:\n{done.stdout}")


@contextlib.contextmanager
def _serving(
    command: Sequence[str],
    *,
    account: str | None,
    home: Path,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that leaves no process behind."""
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            **_as_account(account),
            cwd=home,
            env=os.environ | {"HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A Ctrl-C is for pytest, which then stops the server in its own order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_connection(
    connect: Callable[[], Any],
    not_yet: type[Exception],
    process: subprocess.Popen[bytes],
    home: Path,
) -> Any:
    """Connect as soon as the server lets us.

    Raises:
        RuntimeError: It ended, or was not ready in ``START_S`` seconds; with its log.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            return connect()
        except not_yet as error:
            is_over = time.monotonic() > deadline
            # The pause between two attempts; it ends at once when the server does.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_S)
            if is_over or process.poll() is not None:
                log = (home / "log").read_text(errors="replace")
                raise RuntimeError(f"the server did not start:\n{log}") from error
