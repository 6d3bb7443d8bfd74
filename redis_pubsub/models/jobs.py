"""Jobs that failed for good, as the database knows them: a name for permissions."""

from __future__ import annotations

from django.db import models


class DeadLetter(models.Model):
    """A job that failed for good. They are in Redis: this has no table and no rows; who may
    see them, replay them (change) and delete them are permissions as of any model."""

    class Meta:
        managed = False
        default_permissions = ("view", "change", "delete")

    def __str__(self) -> str:
        return "dead letter"
