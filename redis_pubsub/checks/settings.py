"""The checks of ``settings.REDIS_PUBSUB``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage

from ..broker import MEMORY
from ..conf import SETTING
from ..publishing.outbox.rows import databases
from .audiences import check_channels
from .exposure import check_exposure
from .references import check_references
from .report import at, warning
from .shape import sift
from .values import check_values


def check_setting(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Everything that is wrong wherever the site runs."""
    sound, messages = sift(getattr(settings, SETTING, {}))
    messages += check_values(sound)
    messages += check_references(sound)
    messages += check_channels(sound)
    if sound.top.get("outbox") is True and not databases():
        messages.append(
            warning(
                "W002",
                f"{at('outbox')} is on, but no database may have its tables, so it keeps "
                "nothing: DATABASE_ROUTERS allow no migration of redis_pubsub.",
                "Allow it on the databases whose transactions publish.",
            )
        )
    return messages


def check_deployment(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """What is fine while developing and not in production: ``check --deploy``."""
    sound, _ = sift(getattr(settings, SETTING, {}))
    messages: list[CheckMessage] = []
    if sound.url.startswith(MEMORY):
        messages.append(
            warning(
                "W003",
                f"{at('url')} is {MEMORY}: one process's memory, which other workers, "
                "commands and task queues do not hear, and which a restart forgets.",
                "Set it to a Redis.",
            )
        )
    if sound.top.get("outbox") is True and sound.url.startswith(MEMORY):
        messages.append(
            warning(
                "W005",
                f"{at('outbox')} is on with {MEMORY}: messages are kept until they are in "
                "the memory of one process, whichever publishes them.",
                f"Set {at('url')} to a Redis.",
            )
        )
    if sound.top.get("token_in_query"):
        messages.append(
            warning(
                "W004",
                f"{at('token_in_query')} is on: proxies, access logs and browser "
                "histories keep URLs, and so the tokens in them.",
                "Turn it off and send the token as the subprotocol, "
                'new WebSocket(url, ["bearer", token]), or in Authorization; or send a '
                "one-use ticket, which may be in the URL.",
            )
        )
    messages += check_exposure(sound)
    return messages
