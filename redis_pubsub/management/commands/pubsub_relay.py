"""``manage.py pubsub_relay``: publish what waits in the outbox, without serving sockets.

Serving processes do the same. This is for sites whose serving processes should not, and,
with ``--once``, for an end to a deployment or a cron job.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...broker import MEMORY
from ...conf import get_config
from ...publishing.outbox import state
from ...publishing.outbox.relay import relay_all, relay_until


class Command(BaseCommand):
    help = "Publish the messages that wait in the outbox."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--once",
            action="store_true",
            help="end when nothing is left; status 1 if something is",
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="with --once: end after so long in any case; default: 60",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if get_config().url.startswith(MEMORY):
            raise CommandError(
                f"{MEMORY} is one process's memory, nobody would hear this one: set "
                'REDIS_PUBSUB["url"] to a Redis'
            )
        if options["once"]:
            published = relay_all(options["timeout"])
            found = state()
            self.stdout.write(
                f"published: {published}, waiting: {found.depth}, parked: {found.parked}"
            )
            if found.depth:
                sys.exit(1)
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        self.stdout.write("Relaying. Quit with CONTROL-C.")
        self.stdout.flush()
        relay_until(stop)
