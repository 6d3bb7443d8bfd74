"""``manage.py pubsub_deadletters``: jobs that failed for good; look, replay, delete."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...broker import MEMORY
from ...broker.jobs import BlockingJobs, DeadLetter
from ...conf import get_config
from ...consumers import by_name
from ...contrib.tasks.consumers import load_all
from ...exceptions import PubSubError
from ...publishing.publisher import publisher

PAGE = 200
_PAYLOAD_SHOWN = 500


class Command(BaseCommand):
    help = "List, replay or delete jobs that failed for good."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=("list", "replay", "delete"))
        parser.add_argument("queue", nargs="?", help="a consumer's name; by default all")
        parser.add_argument("entries", nargs="*", help="as the list names them")
        parser.add_argument(
            "--all", action="store_true", help="replay or delete every one of the queue"
        )
        parser.add_argument("--limit", type=int, default=50, help="of list; default: 50")

    def handle(self, *args: Any, **options: Any) -> None:
        if get_config().url.startswith(MEMORY):
            raise CommandError(
                f"{MEMORY} is one process's memory, there is nothing in this one: set "
                'REDIS_PUBSUB["url"] to a Redis'
            )
        jobs = publisher.broker().jobs
        try:
            if options["action"] == "list":
                self._list(jobs, options)
            elif not options["queue"] or bool(options["entries"]) is options["all"]:
                raise CommandError("name a queue, and entries of it or --all")
            else:
                self._treat(jobs, options)
        except PubSubError as error:
            raise CommandError(str(error)) from error

    def _list(self, jobs: BlockingJobs, options: dict[str, Any]) -> None:
        queues = [options["queue"]] if options["queue"] else sorted(by_name(load_all()))
        found = 0
        for queue in queues:
            for letter in jobs.dead(queue, options["limit"]):
                found += 1
                self.stdout.write(_described(letter))
        self.stdout.write(f"{found} dead letter(s)")

    def _treat(self, jobs: BlockingJobs, options: dict[str, Any]) -> None:
        queue = options["queue"]
        treat: Callable[[str, str], bool] = (
            jobs.replay if options["action"] == "replay" else jobs.delete
        )
        # The oldest first, as they were sent.
        entries = options["entries"] or list(_all(jobs, queue))[::-1]
        done = sum(treat(queue, entry) for entry in entries)
        word = "replayed" if options["action"] == "replay" else "deleted"
        self.stdout.write(f"{word}: {done} of {len(entries)}")


def _all(jobs: BlockingJobs, queue: str) -> Iterator[str]:
    before = ""
    while letters := jobs.dead(queue, PAGE, before):
        yield from (letter.entry for letter in letters)
        before = letters[-1].entry


def _described(letter: DeadLetter) -> str:
    died = datetime.fromtimestamp(letter.died_at, UTC).isoformat(timespec="seconds")
    payload = letter.raw[:_PAYLOAD_SHOWN].decode(errors="replace")
    lines = letter.error.strip().splitlines()
    return (
        f"{letter.queue} {letter.entry} {died} attempts: {letter.attempts}\n"
        f"    {payload}\n    {lines[-1] if lines else ''}"
    )
