"""``manage.py seed_chat``: some users and a first correspondence to look at."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from ...models import Correspondence, Message

NAMES = {"ada": ("Ada", "Lovelace"), "bob": ("Bob", "Noyce")}
SUBJECT = "The first program"
MESSAGES = [
    (0, "Note G is done. It computes the Bernoulli numbers, loop and all."),
    (1, "Wonderful! And what does it run on?"),
    (0, "That is the one part still missing."),
]


class Command(BaseCommand):
    help = (
        "Create users, of whom the first may use the admin, and a first correspondence "
        "between the first two of them."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "users", type=Path, help="a file with a name and a password in each line"
        )
        parser.add_argument(
            "--set-passwords",
            action="store_true",
            help="give users that exist the file's passwords, too",
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        lines = options["users"].read_text().splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
        if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs):
            raise CommandError(f"{options['users']} has no two names with passwords")
        users = [
            self._user(name, password, options["set_passwords"], may_admin=not number)
            for number, (name, password) in enumerate(pairs)
        ]
        if not Correspondence.objects.exists():
            self._correspond(users[:2])

    def _user(
        self, username: str, password: str, set_password: bool, *, may_admin: bool
    ) -> Any:
        first_name, last_name = NAMES.get(username, (username.capitalize(), ""))
        user, is_new = get_user_model().objects.get_or_create(
            username=username,
            defaults={
                "first_name": first_name,
                "last_name": last_name,
                "is_staff": may_admin,
                "is_superuser": may_admin,
            },
        )
        if is_new or set_password:
            user.set_password(password)
            user.save(update_fields=["password"])
        return user

    def _correspond(self, users: list[Any]) -> None:
        correspondence = Correspondence.objects.create(subject=SUBJECT)
        correspondence.participants.add(*users)
        for author, body in MESSAGES:
            Message.objects.create(
                correspondence=correspondence, author=users[author], body=body
            )
