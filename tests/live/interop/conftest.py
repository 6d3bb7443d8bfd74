"""One backstage for the module's tests, and the servers it starts."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redis_pubsub.testing import RedisServer
from tests.processes import Process

SERVERS: dict[str, dict[str, Any]] = {
    "main": {},
    "other": {},
    "pair": {"workers": 2},
    "brisk": {"HEARTBEAT_S": "2"},
}
"""Names of the servers, and what is particular about them."""


class Backstage:
    """Tells the backstage what to do, see `tests.live.interop.backstage.Deeds`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def tell(self, deed: str, **arguments: Any) -> Any:
        body = json.dumps({"do": deed, **arguments}).encode()
        with urllib.request.urlopen(self.url, body, timeout=30) as answer:
            return json.load(answer)

    async def __call__(self, deed: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(self.tell, deed, **arguments)


@pytest.fixture(scope="session")
def backstage(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backstage]:
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.live.interop.settings",
        "TEST_DATA": str(tmp_path_factory.mktemp("interop")),
        "TEST_RUN": "interop",
        "REDIS_URL": redis_server.url,
    }
    with Process("-m", "tests.live.interop.backstage", env=env) as process:
        process.wait_for("backstage is at ")
        yield Backstage(process.output.partition("backstage is at ")[2].split()[0])
        process.end()
    print(process.output)
    # One procedure fails on purpose; nothing else has a reason to.
    failures = process.output.count("websockets.fail failed")
    assert process.output.count("Traceback") == failures
    assert "never retrieved" not in process.output


@pytest.fixture(scope="session")
def server_url(backstage: Backstage) -> Callable[[str], str]:
    """The address of one of `SERVERS`; the first call starts it."""
    return lambda name: backstage.tell("serve", name=name, **SERVERS[name])
