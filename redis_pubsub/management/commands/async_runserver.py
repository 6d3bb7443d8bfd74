"""``manage.py async_runserver``: version 1.0's name of ``pubsub_serve``."""

from __future__ import annotations

from .pubsub_serve import Command

__all__ = ["Command"]
