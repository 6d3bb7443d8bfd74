"""``manage.py pubsub_worker``: run the jobs that `redis_pubsub.send` asks for.

Start as many as there is work for, on as many machines: they share it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web
from django.core.management.base import BaseCommand, CommandError
from django.utils import autoreload

from ...broker import MEMORY
from ...conf import get_config
from ...consumers import Consumer, by_name
from ...contrib.monitoring import endpoints as monitoring
from ...contrib.tasks.consumers import load_all
from ...engine import Engine
from ...web.keys import ENGINE
from ...worker import Worker
from ...worker.watch import QueueWatch


class Command(BaseCommand):
    help = "Run jobs, in as many processes as this is started in."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", help="the consumers to work for; by default all"
        )
        parser.add_argument(
            "--concurrency",
            type=int,
            default=4,
            metavar="N",
            help="jobs at once; 1 keeps their order; default: 4",
        )
        parser.add_argument(
            "--autoreload",
            action="store_true",
            help="start anew when the code changes: for development",
        )
        parser.add_argument(
            "--monitor",
            metavar="HOST:PORT",
            help="answer /healthz, /readyz and /metrics there",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if get_config().url.startswith(MEMORY):
            raise CommandError(
                f"{MEMORY} is one process's memory, this worker would see no other "
                'process\'s jobs: set REDIS_PUBSUB["url"] to a Redis, as in '
                '"redis://localhost:6379/0"'
            )
        if options["concurrency"] < 1:
            raise CommandError("--concurrency is 1 or more")
        if options["autoreload"]:
            autoreload.run_with_reloader(self._run_reloadable, options)
        else:
            self._run(options)

    def _run_reloadable(self, options: dict[str, Any]) -> None:
        autoreload.raise_last_exception()
        self.check(display_num_errors=True)
        session = Session(self, options)
        autoreload.file_changed.connect(session.stop_before_reload, weak=False)
        session.run()

    def _run(self, options: dict[str, Any]) -> None:
        session = Session(self, options)
        session.run()
        if session.left:
            # Threads cannot be ended; their jobs are somebody else's already.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


class Session:
    """One worker on a loop of its own; stoppable from other threads.

    Args:
        command: Where to print.
        options: The command's.

    Attributes:
        left: Jobs that did not finish in time.
    """

    def __init__(self, command: BaseCommand, options: dict[str, Any]) -> None:
        self._command = command
        self._options = options
        self._consumers = load_all()
        self._queues = self._chosen(self._consumers, options["names"])
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ended = threading.Event()
        self.left = 0

    @staticmethod
    def _chosen(consumers: Sequence[Consumer], names: Sequence[str]) -> list[str]:
        known = by_name(consumers)
        if not known:
            raise CommandError(
                'there is no consumer: write @consumer("name") into the consumers.py of an '
                "installed app"
            )
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise CommandError(
                f"no consumer is called {', '.join(unknown)}; there are: "
                f"{', '.join(sorted(known))}"
            )
        return sorted(names or known)

    def run(self) -> None:
        """Work until SIGINT, SIGTERM or a changed file."""
        try:
            asyncio.run(self._work())
        finally:
            self._ended.set()

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._asked_to_stop, number)
        engine = Engine(get_config())
        await engine.start()
        worker = Worker(
            engine,
            self._consumers,
            queues=self._queues,
            concurrency=self._options["concurrency"],
        )
        QueueWatch(engine, self._queues).start()
        try:
            async with self._monitored(engine):
                worker.start()
                self._command.stdout.write(
                    f"Working for {', '.join(self._queues)}. Quit with CONTROL-C."
                )
                self._command.stdout.flush()
                await self._stop.wait()
                await worker.close()
                self.left = worker.left
        finally:
            await engine.close()

    def _asked_to_stop(self, number: signal.Signals) -> None:
        # The second signal is the default's: it ends the process at once.
        assert self._loop is not None
        self._loop.remove_signal_handler(number)
        self._stop.set()

    @contextlib.asynccontextmanager
    async def _monitored(self, engine: Engine) -> AsyncIterator[None]:
        if not self._options["monitor"]:
            yield
            return
        host, _, port = self._options["monitor"].rpartition(":")
        if not port.isdigit():
            raise CommandError("--monitor takes an address, as in 127.0.0.1:9100")
        app = web.Application()
        app[ENGINE] = engine
        monitoring.mount(app, engine.config.health_options)
        monitoring.start(engine)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host or "127.0.0.1", int(port)).start()
            yield
        except OSError as error:
            raise CommandError(f"--monitor: {error.strerror or error}") from None
        finally:
            await runner.cleanup()

    def stop_before_reload(self, **kwargs: Any) -> None:
        """A file changed: finish what runs; the reloader then ends the process."""
        if self._loop is not None and not self._ended.is_set():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
                self._ended.wait(get_config().workers.stop_s + 5)
