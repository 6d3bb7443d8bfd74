"""``manage.py pubsub_prune``: delete old receipts."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from ...conf import get_config
from ...retention import Pruned, prune


class Command(BaseCommand):
    help = (
        "Delete receipts that are older than some days and may go: nothing that was "
        "delivered becomes undelivered again."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--days",
            type=int,
            metavar="N",
            help='keep the receipts of the last N days; default: REDIS_PUBSUB["receipts"]'
            '["keep_days"]',
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="which database")

    def handle(self, *args: Any, **options: Any) -> None:
        is_dry = options["dry_run"]
        before = timezone.now() - timedelta(days=self._days(options["days"]))
        verb = "would be deleted" if is_dry else "deleted"
        total = 0
        for pruned in prune(before, using=options["database"], is_dry=is_dry):
            total += pruned.deleted
            self.stdout.write(f"{pruned.label}: {pruned.deleted} {verb}{_kept(pruned)}")
        self.stdout.write(
            f"Receipts from before {before:%Y-%m-%d %H:%M %Z}: {total} {verb}."
        )

    def _days(self, asked: int | None) -> int:
        days = get_config().receipts.keep_days if asked is None else asked
        if asked is None and not days:
            raise CommandError(
                "say how many days to keep: --days N, or "
                'REDIS_PUBSUB["receipts"] = {"keep_days": N}'
            )
        if days < 1:
            raise CommandError("receipts are kept for 1 day at least")
        return days


def _kept(pruned: Pruned) -> str:
    if not pruned.kept:
        return ""
    if pruned.is_dated:
        return f", {pruned.kept} of newer rows kept"
    return (
        f", {pruned.kept} kept: their rows are there, and without TRACK_DELIVERY_BY "
        "nothing says that they are old"
    )
