"""``manage.py pubsub_outbox``: look at the outbox, retry or drop what was parked."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from ...models import OutboxMessage
from ...publishing.outbox.rows import databases, state

_SHOWN = 50


class Command(BaseCommand):
    help = "Show what waits in the outbox; retry or drop parked messages."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "action", nargs="?", choices=("list", "retry", "drop"), default="list"
        )
        parser.add_argument("ids", nargs="*", type=int, metavar="ID")
        parser.add_argument("--all", action="store_true", help="every parked message")
        parser.add_argument("--channel", help="the parked messages of one channel")
        parser.add_argument("--database", help="alias; default: all for list, else default")

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"]
        if alias is not None and alias not in connections:
            raise CommandError(f"there is no database {alias!r}")
        if options["action"] == "list":
            for each in [alias] if alias else databases():
                self._list(each)
            return
        rows = self._chosen(options)
        if options["action"] == "retry":
            self.stdout.write(f"to be tried again: {rows.retry()}")
        else:
            self.stdout.write(f"dropped: {rows.delete()[0]}")

    def _list(self, alias: str) -> None:
        found = state(alias)
        self.stdout.write(
            f"{alias}: waiting: {found.depth}, oldest: {found.oldest_s:.1f} s, "
            f"parked: {found.parked}"
        )
        parked = OutboxMessage.objects.using(alias).filter(parked=True).order_by("id")
        for row in parked.defer("payload")[:_SHOWN]:
            self.stdout.write(f"{row.pk}\t{row.channel}\t{row.last_error}")
        if found.parked > _SHOWN:
            self.stdout.write(f"... and {found.parked - _SHOWN} more")

    def _chosen(self, options: dict[str, Any]) -> Any:
        rows: Any = OutboxMessage.objects.using(options["database"] or "default")
        rows = rows.filter(parked=True)
        if options["channel"]:
            rows = rows.filter(channel=options["channel"])
        elif not options["ids"] and not options["all"]:
            raise CommandError("name the ids, or --channel, or --all")
        return rows.filter(pk__in=options["ids"]) if options["ids"] else rows
