"""``manage.py pubsub_serve``: sockets and pages in one process, for development.

With ``--workers`` above 1 it starts gunicorn, which is what production uses directly. With
``--no-django`` it serves sockets alone.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gunicorn
from aiohttp import web
from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import autoreload

from ...broker import MEMORY
from ...conf import get_config
from ...contrib.websockets.server import make_runner, site_application, socket_application
from ...web import garbage
from ...web.connections import Connections
from ...web.keys import ENGINE

PACKAGE = "redis_pubsub.contrib.websockets"
RELOAD = 3
"""The exit status with which Django's reloader asks for a new process."""


class Command(BaseCommand):
    help = "Serve WebSockets and Django's pages from one process."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        # The settings are read in handle(): they may be wrong, and --help still helps.
        parser.add_argument(
            "addrport", nargs="?", help="as for runserver: 8001, or 0.0.0.0:8001"
        )
        parser.add_argument("--host", help='default: REDIS_PUBSUB["host"], or localhost')
        parser.add_argument(
            "--port", type=int, help='default: REDIS_PUBSUB["port"], or 8000; 0: a free one'
        )
        parser.add_argument(
            "--unix", metavar="PATH", help="listen on a unix socket instead"
        )
        parser.add_argument("--workers", type=int, default=1, help="more than 1: gunicorn")
        parser.add_argument("--noreload", action="store_true", help="do not watch the code")
        parser.add_argument(
            "--no-django", action="store_true", help="sockets only, none of Django's pages"
        )
        parser.add_argument("--nostatic", action="store_true", help="no static files")
        parser.add_argument("--access-log", action="store_true", help="log every request")

    def handle(self, *args: Any, **options: Any) -> None:
        config = get_config()
        if options["addrport"]:
            options |= _listening(options)
        if options["host"] is None:
            options["host"] = config.host
        if options["port"] is None:
            options["port"] = config.port
        if options["workers"] > 1:
            self._run_gunicorn(options)
        elif options["noreload"] or not settings.DEBUG:
            self._check()
            Server(self, options).run()
        elif os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
            autoreload.run_with_reloader(self._run_reloadable, options)
        else:
            sys.exit(keep_running())

    def _check(self) -> None:
        self.stdout.write("Performing system checks...")
        self.check(display_num_errors=True)
        self.check_migrations()

    def _run_reloadable(self, options: dict[str, Any]) -> None:
        autoreload.raise_last_exception()
        # What does not import is no module, which is all that Django would watch.
        autoreload.autoreload_started.connect(watch_apps)
        self._check()
        server = Server(self, options)
        # Sockets are closed before the process is replaced, so that no page hangs.
        autoreload.file_changed.connect(server.stop_before_reload, weak=False)
        atexit.register(server.stop_and_wait)
        server.run()

    def _run_gunicorn(self, options: dict[str, Any]) -> None:
        if get_config().url.startswith(MEMORY):
            raise CommandError(
                f"{MEMORY} is one process's memory, {options['workers']} workers would not "
                'hear each other: set REDIS_PUBSUB["url"] to a Redis, or use --workers 1'
            )
        self._check()
        bind = (
            f"unix:{options['unix']}"
            if options["unix"]
            else (f"{options['host']}:{options['port']}")
        )
        module = "deploy_sockets" if options["no_django"] else "deploy"
        arguments = [
            *(sys.executable, "-m", "gunicorn", f"{PACKAGE}.{module}:application"),
            *("--bind", bind, "--workers", str(options["workers"])),
            *("--worker-class", "aiohttp.worker.GunicornWebWorker"),
            # A control socket that nobody asked for; gunicorn has one since 25.1.
            *(["--no-control-socket"] if gunicorn.version_info >= (25, 1) else []),
            *(["--access-logfile", "-"] if options["access_log"] else []),
        ]
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings.SETTINGS_MODULE)
        self.stdout.write(f"Server running on {_address(options)}")
        self.stdout.flush()
        os.execv(sys.executable, arguments)


class Server:
    """The application on a loop of its own; stoppable from other threads.

    Args:
        command: Where the URL line is printed.
        options: The command's.
    """

    def __init__(self, command: BaseCommand, options: dict[str, Any]) -> None:
        self._command = command
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ended = threading.Event()
        self._app: web.Application | None = None

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop_and_wait`."""
        try:
            asyncio.run(self._serve())
        finally:
            self._ended.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        options = self._options
        if options["no_django"]:
            self._app = socket_application(None)
        else:
            has_static = settings.DEBUG and not options["nostatic"]
            self._app = site_application(None, static_files=has_static)
        runner = make_runner(
            self._app, access_log=_access_log() if options["access_log"] else None
        )
        await runner.setup()
        garbage.relax()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._stop.set)
        try:
            try:
                await self._site(runner).start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise CommandError(f"{reason}; choose another with --port") from None
            self._announce(runner)
            await self._stop.wait()
        finally:
            await runner.cleanup()

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        if self._options["unix"]:
            return web.UnixSite(runner, self._options["unix"])
        return web.TCPSite(runner, self._options["host"], self._options["port"])

    def _announce(self, runner: web.AppRunner) -> None:
        options = dict(self._options)
        if not options["unix"]:
            options["port"] = runner.addresses[0][1]
        self._command.stdout.write(
            f"Server running on {_address(options)}\nQuit with CONTROL-C."
        )
        self._command.stdout.flush()

    def stop_before_reload(self, **kwargs: Any) -> None:
        """A file changed: close the sockets; the reloader then ends the process."""
        self.stop_and_wait()

    def stop_and_wait(self) -> None:
        """From another thread: stop, and wait until everything is closed."""
        if self._loop is not None and not self._ended.is_set():
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                return
            self._ended.wait(get_config().drain_s + 5)

    @property
    def connections(self) -> int:
        """Open sockets."""
        return len(self._app[ENGINE].part(Connections)) if self._app is not None else 0


def keep_running() -> int:
    """Run this command again and again in a child that watches the code.

    Signals are handed on, so that the child can close its sockets; Django's own
    supervisor would kill it. Where a change has broken the code so that a new child cannot
    start, the next change is waited for.
    """
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    child: subprocess.Popen[bytes] | None = None
    is_ending = has_served = False

    def hand_on(number: int, frame: Any) -> None:
        nonlocal is_ending
        is_ending = True
        if child is not None:
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hand_on)
    while True:
        arguments = autoreload.get_child_arguments()
        files = _files()
        # Its own session: a terminal's Ctrl-C reaches it once, through us.
        child = subprocess.Popen(arguments, env=environment, start_new_session=True)
        status = child.wait()
        if is_ending:
            return 0
        if status < 0 or (status != RELOAD and not has_served):
            return status
        has_served = True
        if status != RELOAD:
            sys.stderr.write("The server could not start; waiting for a change.\n")
        while status != RELOAD and not is_ending and _files() == files:
            time.sleep(autoreload.StatReloader.SLEEP_TIME)
        if is_ending:
            return 0


def watch_apps(sender: autoreload.BaseReloader, **kwargs: Any) -> None:
    """Have a reloader watch all that is in the site's own apps."""
    for app in apps.get_app_configs():
        if "site-packages" not in Path(app.path).parts:
            sender.watch_dir(Path(app.path), "**/*.py")


def _files() -> dict[Path, float]:
    """What a change of would bring a new child, and when it changed last."""
    reloader = autoreload.StatReloader()
    watch_apps(reloader)
    return dict(reloader.snapshot_files())


def _listening(options: dict[str, Any]) -> dict[str, Any]:
    """What ``addrport`` says.

    Raises:
        CommandError: It says nothing, or something else does too.
    """
    given = options["addrport"]
    if options["host"] is not None or options["port"] is not None or options["unix"]:
        raise CommandError(f"{given} and --host, --port or --unix: say it once")
    host, colon, port = given.rpartition(":")
    if not (port.isascii() and port.isdigit()) or (colon and not host):
        raise CommandError(f"{given!r} is neither a port nor address:port")
    return {"port": int(port)} | ({"host": host.strip("[]")} if host else {})


def _access_log() -> logging.Logger:
    log = logging.getLogger("redis_pubsub.access")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    return log


def _address(options: dict[str, Any]) -> str:
    if options["unix"]:
        return f"unix:{Path(options['unix'])}"
    return f"http://{options['host']}:{options['port']}"
