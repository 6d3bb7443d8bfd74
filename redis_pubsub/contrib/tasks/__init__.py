"""A backend for ``@task``, Django's own or that of the package ``django-tasks``::

    TASKS = {"default": {"BACKEND": "redis_pubsub.contrib.tasks.PubSubBackend"}}

``manage.py pubsub_worker`` runs the tasks, together with the site's consumers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .backend import PubSubBackend

__all__ = ["PubSubBackend"]

# Resolved at first use: where neither package is there, workers still load this one.
__getattr__ = lazy(__name__, {"PubSubBackend": "backend"})
