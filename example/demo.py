"""``make demo``: the example on this machine, with nothing installed by hand.

Starts a Redis of its own, makes the database and two users, serves with gunicorn, and
has a worker for what is done in the background, until Ctrl-C. What is to be kept lies in
``.demo/``; nothing else stays.

``PORT`` chooses the port (8080), ``DEMO_DIR`` the directory.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import gunicorn

from redis_pubsub.testing import RedisServer, find_redis_server

from .background import Background

ROOT = Path(__file__).resolve().parent.parent
USERS = ("ada", "bob")
WORKERS = 2
HOSTS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
START_TIMEOUT_S = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Refused(Exception):
    """The demo cannot start; the text says why and what to do."""


class Demo:
    """One run.

    Args:
        directory: What is kept between runs lies here.
        port: Where to serve.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._port = port
        self._gunicorn: subprocess.Popen[bytes] | None = None
        self._background: Background | None = None
        self._is_ready = False
        self._is_ending = False

    def run(self) -> int:
        """Serve until a signal comes.

        Returns:
            0, or the status of a gunicorn that ended by itself.

        Raises:
            Refused: It cannot start here.
        """
        for number in SIGNALS:
            signal.signal(number, self._hand_on)
        with ExitStack() as stack:
            sockets = stack.enter_context(listening(self._port))
            stack.enter_context(locked(self._directory))
            redis = stack.enter_context(own_redis(self._directory))
            environment = self._environment(redis)
            self._prepare(environment)
            if self._is_ending:
                return 0
            if redis:
                self._background = stack.enter_context(Background(environment))
            self._serve(environment, sockets, workers=WORKERS if redis else 1)
            self._is_ready = self._answers()
            if self._background and self._is_ready:
                self._background.wait_until_ready()
            if self._is_ready and not self._is_ending:
                self._announce(has_redis=redis is not None)
            return self._wait()

    # -- before ----------------------------------------------------------------------

    def _environment(self, redis: RedisServer | None) -> dict[str, str]:
        key = kept(self._directory / "secret_key", lambda: secrets.token_urlsafe(50))
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "example.settings",
            "DEBUG": "1",
            "SECRET_KEY": key,
            "DATABASE_URL": f"sqlite:///{quote(str(self._directory / 'db.sqlite3'))}",
            "REDIS_URL": redis.url if redis else "memory://",
        }

    def _prepare(self, environment: dict[str, str]) -> None:
        """Migrate, and make the users with the passwords that are printed."""
        users = self._directory / "users.txt"
        # Whoever lost the file cannot read the passwords anywhere: they get new ones.
        seed = ["seed_chat", str(users), *([] if users.exists() else ["--set-passwords"])]
        kept(users, lambda: "".join(f"{name} {new_password()}\n" for name in USERS))
        for command in (["migrate", "--verbosity", "0"], seed):
            if not self._is_ending:
                self._manage(command, environment)

    def _manage(self, command: list[str], environment: dict[str, str]) -> None:
        arguments = [sys.executable, "manage.py", *command]
        done = subprocess.run(
            arguments,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode:
            sys.stderr.write(done.stdout)
            raise Refused(f"`manage.py {command[0]}` failed; `make clean` begins anew")

    # -- serving ---------------------------------------------------------------------

    def _serve(
        self, environment: dict[str, str], sockets: list[socket.socket], *, workers: int
    ) -> None:
        binds = [
            argument for each in sockets for argument in ("--bind", f"fd://{each.fileno()}")
        ]
        self._gunicorn = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "deployment:application", *binds),
                *("--workers", str(workers), "--log-level", "warning"),
                *("--worker-class", "aiohttp.worker.GunicornWebWorker"),
                # A control socket that nobody asked for; gunicorn has one since 25.1.
                *(["--no-control-socket"] if gunicorn.version_info >= (25, 1) else []),
            ],
            cwd=ROOT,
            env=environment,
            pass_fds=[each.fileno() for each in sockets],
            # A terminal's Ctrl-C reaches it once, through us.
            start_new_session=True,
        )
        for each in sockets:
            each.close()
        if self._is_ending:
            self._end_gunicorn()

    def _answers(self) -> bool:
        """Wait for the first page; ``False`` if gunicorn ended instead."""
        # The socket listens since before gunicorn started, so one request is enough:
        # it waits in the queue until a worker takes it, or is reset with gunicorn's end.
        connection = http.client.HTTPConnection(
            HOSTS[0][1], self._port, timeout=START_TIMEOUT_S
        )
        try:
            connection.request("GET", "/login/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _announce(self, *, has_redis: bool) -> None:
        width = max(map(len, USERS))
        lines = [f"http://localhost:{self._port}", ""]
        for line in (self._directory / "users.txt").read_text().splitlines():
            name, password = line.split(maxsplit=1)
            lines.append(f"{name:<{width}}   {password}")
        lines += ["", "Log in as both, in two browsers (or a private window)."]
        if not has_redis:
            lines += [
                "No Redis here: one worker, memory:// instead.",
                "Imports wait for a background worker, which needs a Redis.",
                f"To have one:  {redis_install_command()}",
            ]
        lines += ["Ctrl-C stops everything."]
        edge = "─" * (max(map(len, lines)) + 4)
        block = [edge, *(f"  {line}" for line in lines), edge]
        print("\n".join(["", *block, ""]), flush=True)

    def _wait(self) -> int:
        assert self._gunicorn is not None, "set by _serve()"
        status = self._gunicorn.wait()
        if not self._is_ending:
            return status
        # Whatever its status: a signal may have met it before it was ready for one.
        print("Stopped. The data is kept in", self._directory, flush=True)
        return 0

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C lets gunicorn close its sockets; a second one is impatient."""
        is_impatient, self._is_ending = self._is_ending, True
        self._end_gunicorn(is_impatient=is_impatient)
        if self._background:
            self._background.end(is_impatient=is_impatient)

    def _end_gunicorn(self, *, is_impatient: bool = False) -> None:
        gunicorn = self._gunicorn
        if gunicorn is None or gunicorn.returncode is not None:
            return
        if self._is_ready and not is_impatient:
            gunicorn.terminate()
        else:
            # Nobody is served yet, and a worker that has just been forked may miss a
            # SIGTERM: gunicorn would wait half a minute for it.
            os.killpg(gunicorn.pid, signal.SIGKILL)


@contextmanager
def listening(port: int) -> Iterator[list[socket.socket]]:
    """Sockets on localhost, which gunicorn inherits: a taken port is known at once.

    Raises:
        Refused: Somebody else has the port.
    """
    with ExitStack() as stack:
        sockets = []
        for family, host in HOSTS:
            server = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET6 and error.errno != errno.EADDRINUSE:
                    continue  # A machine without IPv6.
                raise Refused(
                    f"Port {port} cannot be used: {os.strerror(error.errno or 0)}. "
                    f"Choose another one:  PORT={port + 1 if port > 1023 else 8080} "
                    "make demo"
                ) from None
            server.listen(128)
            sockets.append(server)
        yield sockets


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The directory is ours: two runs would not share a Redis, but would share its file.

    Raises:
        Refused: Another run has it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"Another demo runs in {directory}; stop it first") from None
        yield


@contextmanager
def own_redis(directory: Path) -> Iterator[RedisServer | None]:
    """A Redis that keeps its data in the directory; ``None`` where there is none.

    Raises:
        Refused: It is there, but does not start.
    """
    if find_redis_server() is None:
        yield None
        return
    log = directory / "redis.log"
    # The path of a unix socket is short, that of a checkout may not be, so the socket is
    # in a temporary directory and only the data is here.
    places = ("--dir", str(directory), "--logfile", str(log))
    server = RedisServer(keep=True, arguments=places)
    try:
        server.start()
    except RuntimeError:
        raise Refused(f"Redis does not start; see {log}") from None
    try:
        yield server
    finally:
        server.stop()


def redis_install_command() -> str:
    """How a Redis is installed here."""
    for program, command in (
        ("apt-get", "sudo apt-get install redis-server"),
        ("dnf", "sudo dnf install redis"),
        ("pacman", "sudo pacman -S redis"),
        ("apk", "sudo apk add redis"),
    ):
        if shutil.which(program):
            return command
    return "brew install redis"


def kept(path: Path, make: Callable[[], str]) -> str:
    """What a file holds that only its owner may read; made at the first start."""
    if not path.exists():
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make())
        new.rename(path)
    return path.read_text()


def new_password() -> str:
    return secrets.token_hex(5)


def main() -> int:
    directory = Path(os.environ.get("DEMO_DIR") or ".demo").resolve()
    port = os.environ.get("PORT") or "8080"
    try:
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise Refused(f"PORT is a number from 1 to 65535, not {port!r}")
        return Demo(directory, int(port)).run()
    except Refused as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
