"""Saves rows from a process of its own, and says how long each save took its caller.

``python -m benchmarks.peers.servers.save ours|channels``, with the database as Django has
it in ``BENCHMARK_ROWS`` (JSON). Takes commands from standard input, one JSON line each::

    {"kind": "direct", "channel": "saved", "first": 0, "messages": 9, "size": 99, "rate": 5}

``silent`` rows are plain models and publish nothing; *ours* has ``direct`` ones and those
of the ``outbox``; Channels' ``signal`` is what its users write: ``post_save``,
``on_commit`` and ``group_send``.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from ...payloads import now_us, payload
from .publish import Pace

Make = Callable[[str], object]
"""Saves a row with this text."""


def ours(channel: str) -> dict[str, Make]:
    """Publishable rows, with and without the outbox."""
    from django.db import models

    from redis_pubsub.models import Channel, PublishableModel

    class Silent(models.Model):
        channel = models.ForeignKey(Channel, models.CASCADE, related_name="+")
        body = models.TextField()

        class Meta:
            app_label = "saves"

    class Direct(PublishableModel):
        PUBLISH_ON_CREATE = True
        PUBLISH_OUTBOX = False
        body = models.TextField()

        class Meta:
            app_label = "saves"

        def serialize(self) -> str:
            return self.body

    class Kept(PublishableModel):
        PUBLISH_ON_CREATE = True
        PUBLISH_OUTBOX = True
        body = models.TextField()

        class Meta:
            app_label = "saves"

        def serialize(self) -> str:
            return self.body

    _create(Silent, Direct, Kept)
    row, _ = Channel.objects.get_or_create(name=channel)
    kinds = {"silent": Silent, "direct": Direct, "outbox": Kept}
    return {name: _saving(model, channel=row) for name, model in kinds.items()}


def channels(channel: str) -> dict[str, Make]:
    """Plain rows, and a receiver that sends them to a group once they are committed."""
    from asgiref.sync import async_to_sync
    from channels.layers import get_channel_layer
    from django.db import models, transaction
    from django.db.models.signals import post_save

    class Room(models.Model):
        name = models.CharField(max_length=100)

        class Meta:
            app_label = "saves"

    class Silent(models.Model):
        room = models.ForeignKey(Room, models.CASCADE, related_name="+")
        body = models.TextField()

        class Meta:
            app_label = "saves"

    class Told(models.Model):
        room = models.ForeignKey(Room, models.CASCADE, related_name="+")
        body = models.TextField()

        class Meta:
            app_label = "saves"

    _create(Room, Silent, Told)
    send = async_to_sync(get_channel_layer().group_send)

    def tell(instance: Any, **_: Any) -> None:
        event = {"type": "news.message", "text": instance.body}
        transaction.on_commit(lambda: send(instance.room.name, event))

    post_save.connect(tell, sender=Told, weak=False)
    room = Room.objects.create(name=channel)
    return {"silent": _saving(Silent, room=room), "signal": _saving(Told, room=room)}


def _create(*models: Any) -> None:
    from django.db import connection

    with connection.schema_editor() as editor:
        for model in models:
            editor.create_model(model)


def _saving(model: Any, **fields: Any) -> Make:
    return lambda body: model.objects.create(body=body, **fields)


def save_all(make: Make, command: dict[str, Any]) -> dict[str, Any]:
    """Save ``messages`` rows, ``rate`` a second (0: no pause)."""
    took, pace = [], Pace(command["rate"])
    started, cpu = now_us(), time.process_time()
    for number in range(command["first"], command["first"] + command["messages"]):
        time.sleep(pace.pause_s(1))
        body = payload(number, command["size"]).decode()
        before = time.perf_counter()
        make(body)
        took.append((time.perf_counter() - before) * 1000)
    elapsed_s = (now_us() - started) / 1e6
    return {
        "started_us": started,
        "save_p50_ms": statistics.median(took),
        "save_p99_ms": sorted(took)[int(len(took) * 0.99)],
        "saves_per_s": len(took) / elapsed_s,
        "cpu_us_per_save": (time.process_time() - cpu) / len(took) * 1e6,
    }


def _set_up(kind: str) -> None:
    import django
    from django.conf import settings

    if kind == "ours":
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.site.settings"
    else:
        from . import channels_site  # noqa: F401
    settings.DATABASES["default"] = json.loads(os.environ["BENCHMARK_ROWS"])
    if kind == "ours":
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)


def _drain(kind: str) -> None:
    """Wait until the outbox is empty: its thread is not the next round's business."""
    if kind == "outbox":
        from redis_pubsub.publishing.outbox import state

        while state("default").depth:
            time.sleep(0.005)


def _main(kind: str) -> None:
    _set_up(kind)
    kinds = {"ours": ours, "channels": channels}
    makes: dict[str, Make] = {}
    print("{}", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        makes = makes or kinds[kind](command["channel"])
        answer = save_all(makes[command["kind"]], command)
        _drain(command["kind"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
