"""What the migrations say the models are, without a database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from django.db.models import CASCADE

KEY = ("AutoField", {"auto_created": True, "primary_key": True, "serialize": False})


def foreign_key(to: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return "ForeignKey", {"on_delete": CASCADE, "to": to.lower(), **options}


VERSION_1: dict[str, Any] = {
    "channel": {
        "id": KEY,
        "name": ("CharField", {"max_length": 100, "unique": True}),
        "datetime_created": ("DateTimeField", {"auto_now_add": True}),
    },
    "receivedpublication": {
        "id": KEY,
        "datetime_received": ("DateTimeField", {"auto_now_add": True}),
        "publication_id": ("PositiveIntegerField", {"null": True}),
        "channel": foreign_key("redis_pubsub.channel", related_name="publications"),
        "publication_type": foreign_key("contenttypes.contenttype", null=True),
        "subscriber": foreign_key(
            settings.AUTH_USER_MODEL, related_name="received_publications"
        ),
    },
    "subscription": {
        "id": KEY,
        "active": ("BooleanField", {"default": True}),
        "channel": foreign_key("redis_pubsub.channel", related_name="subscribers"),
        "subscriber": foreign_key(settings.AUTH_USER_MODEL, related_name="subscriptions"),
    },
}


def test_the_first_migration_makes_what_version_1_made():
    """A database of 1.0 has a migration of that name applied, so ours must agree with it
    in every field (P3)."""
    state = MigrationLoader(None).project_state(("redis_pubsub", "0001_initial"))

    made = {
        name: {field: _described(value) for field, value in model.fields.items()}
        for (app, name), model in state.models.items()
        if app == "redis_pubsub"
    }

    assert made == VERSION_1


def test_the_first_migration_makes_the_constraint_of_version_1_and_no_more():
    """One subscription a user and channel, and no other constraint, index or table name
    (P3, P16)."""
    state = MigrationLoader(None).project_state(("redis_pubsub", "0001_initial"))

    options = {
        name: {key: value for key, value in model.options.items() if value}
        for (app, name), model in state.models.items()
        if app == "redis_pubsub"
    }

    assert options == {
        "channel": {},
        "receivedpublication": {},
        "subscription": {"unique_together": {("subscriber", "channel")}},
    }


def _described(field: Any) -> tuple[str, dict[str, Any]]:
    _, path, _, options = field.deconstruct()
    options.pop("verbose_name", None)
    if "to" in options:
        options["to"] = str(options["to"]).lower()
    return path.rpartition(".")[2], dict(options)
