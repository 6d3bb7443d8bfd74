"""System checks: wrong settings and models are told at start, with what to do."""

from __future__ import annotations


def register() -> None:
    """Make the checks known to Django; called by ``apps.ready()``."""
