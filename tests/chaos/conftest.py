"""Databases for the stands, and how long things last: ``CHAOS=full`` is the long form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_pubsub.testing.server import find_redis_server
from tests.services import require

from .stand import Databases, databases

IS_FULL = os.environ.get("CHAOS", "") == "full"


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    require("Redis", find_redis_server() is not None)
    with databases(Path(tmp_path_factory.mktemp("chaos"))) as found:
        yield found
