"""Whether a test looks on: there nothing is left to another thread, or for later."""

from __future__ import annotations

import sys


def is_under_test() -> bool:
    """Whether Django's test environment is set up: there, everything is published by the
    thread that commits, before the commit returns."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")
