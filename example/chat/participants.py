"""Who participates in a correspondence is subscribed to its channel, and nobody else.

Pages that are open are told as well: ``refresh`` has every process ask ``authorization.py``
anew for what a user hears, and ends what is no longer his.

``save()`` is too early for that: many-to-many relations are written after it, and later
again. So the change of the relation itself is what subscribes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Model
from django.db.models.signals import m2m_changed

from redis_pubsub import refresh

from .models import Correspondence


def connect() -> None:
    """Follow the relation; called by ``apps.ready()``."""
    m2m_changed.connect(
        participants_changed,
        sender=Correspondence.participants.through,
        dispatch_uid="example.chat",
    )


def participants_changed(
    instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, **kwargs: Any
) -> None:
    """Subscribe who was added, unsubscribe who was removed, from either side."""
    # After a clear nobody knows any more who it was, so that is answered before.
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    correspondences: Iterable[Correspondence]
    users: Iterable[Model]
    if reverse:
        users = [instance]
        correspondences = (
            instance.correspondences.all()
            if pk_set is None
            else Correspondence.objects.filter(pk__in=pk_set)
        )
    else:
        correspondences = [instance]
        users = (
            instance.participants.all()
            if pk_set is None
            else get_user_model()._default_manager.filter(pk__in=pk_set)
        )
    for correspondence in correspondences:
        if action == "post_add":
            correspondence.subscribe(*users)
        else:
            for user in users:
                correspondence.channel.unsubscribe(user)
                refresh(user)
