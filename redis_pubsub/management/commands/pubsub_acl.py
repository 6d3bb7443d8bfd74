"""``manage.py pubsub_acl``: the users that Redis needs to know."""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...broker.acl import AclUser, users
from ...conf import get_config

COMMANDS, FILE = "commands", "file"


class Command(BaseCommand):
    help = (
        "Print the two users that Redis needs to know, with no more rights than they need "
        "and new passwords. Changes nothing."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=(COMMANDS, FILE),
            default=COMMANDS,
            help="commands for redis-cli (the default), or lines of an ACL file, which "
            "hold only the passwords' hashes",
        )
        parser.add_argument(
            "--name",
            metavar="NAME",
            help="what the users' names begin with; default: the prefix",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        prefix = get_config().prefix
        if re.search(r"\s", prefix):
            raise CommandError(
                f"the prefix {prefix!r} has a blank, which Redis' rules cannot name"
            )
        name = options["name"] or re.sub(r"[^\w.-]", "-", prefix)
        if not re.fullmatch(r"[\w.-]+", name):
            raise CommandError("a name is made of letters, digits and _ . -")
        for user in users(prefix):
            self._print(user, f"{name}-{user.role}", options["format"])

    def _print(self, user: AclUser, name: str, form: str) -> None:
        password = secrets.token_urlsafe(32)
        self.stdout.write(f"# {user.purpose}")
        self.stdout.write(f"# redis://{name}:{password}@HOST:6379/0")
        if form == FILE:
            digest = hashlib.sha256(password.encode()).hexdigest()
            self.stdout.write(f"user {name} on #{digest} {user.rules}\n\n")
        else:
            quoted = " ".join(f"'{word}'" for word in user.rules.split())
            self.stdout.write(f"ACL SETUSER {name} reset on '>{password}' {quoted}\n\n")
