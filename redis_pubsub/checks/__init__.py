"""System checks: wrong settings and models are told at start, with what to do.

Each wrong key is one message, and nothing here raises whatever the settings hold:
``conf.read`` refuses a whole setting at its first mistake, which is too late and too
little for somebody who looks for it.

Ids: ``E001``… and ``W001``… settings, ``E101``… models.
"""

from __future__ import annotations

from django.core import checks

from .models import check_models
from .settings import check_deployment, check_setting

TAG = "redis_pubsub"


def register() -> None:
    """Make the checks known to Django; called by ``apps.ready()``."""
    checks.register(check_setting, TAG, checks.Tags.compatibility)
    checks.register(check_models, TAG, checks.Tags.models)
    checks.register(check_deployment, TAG, checks.Tags.security, deploy=True)
