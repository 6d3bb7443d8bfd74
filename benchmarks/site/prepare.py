"""Makes the measured site's database: tables, users and their tokens.

``python -m benchmarks.site.prepare 2000``; both this package's site and Channels' use it.
"""

from __future__ import annotations

import os
import sys


def prepare(users: int) -> None:
    """So many users, ``benchmark-0`` and so on; token ``benchmark-token-0`` and so on."""
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from rest_framework.authtoken.models import Token

    call_command("migrate", verbosity=0)
    User.objects.bulk_create(User(username=f"benchmark-{i}") for i in range(users))
    Token.objects.bulk_create(
        Token(user=user, key=f"benchmark-token-{user.username.rpartition('-')[2]}")
        for user in User.objects.all()
    )


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site.settings"
    prepare(int(sys.argv[1]))
