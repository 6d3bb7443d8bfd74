"""Helpers for testing sites that use this package.

As a pytest plugin it brings fixtures (see ``redis_pubsub.testing.plugin``); everything
here also works without pytest.
"""

from __future__ import annotations

from .server import RedisServer

__all__ = ["RedisServer"]
