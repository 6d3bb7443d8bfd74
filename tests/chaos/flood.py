"""Publishes a lot, many in a transaction: ``python -m tests.chaos.flood OPTIONS``."""

from __future__ import annotations

import json
import sys

import django

_TOGETHER = 500


def main(messages: int, channels: list[str]) -> None:
    """Each message on one of the channels, in turn; then ``end`` on each."""
    django.setup()
    from django.db import transaction

    from redis_pubsub import publish

    for begin in range(0, messages, _TOGETHER):
        with transaction.atomic():
            for n in range(begin, min(messages, begin + _TOGETHER)):
                publish(channels[n % len(channels)], {"key": n}, strict=True)
    for channel in channels:
        publish(channel, {"key": "end"}, strict=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
