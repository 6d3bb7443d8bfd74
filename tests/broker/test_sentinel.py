"""With Sentinel: everybody follows the master, whoever that is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess

import pytest
import redis

from redis_pubsub.broker import open_blocking, open_broker
from redis_pubsub.broker.addresses import sentinel_address
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions
from redis_pubsub.testing import RedisServer
from tests.processes import free_port
from tests.sentinels import Replicated, Sentinels
from tests.services import require

from .test_contract import Inbox, draft


def test_a_url_names_sentinels_master_and_database():
    """Passwords are escaped; the sentinels' own are options, and not Redis' business."""
    address = sentinel_address(
        "redis+sentinel://user:p%40ss@one:26379,[::1]:26380,three/my%2Fmaster/2"
        "?sentinel_username=watch&sentinel_password=s%26p&health_check_interval=5"
    )

    assert address.sentinels == (("one", 26379), ("::1", 26380), ("three", 26379))
    assert address.service == "my/master"
    assert address.url == "redis://user:p%40ss@sentinel/2?health_check_interval=5"
    assert address.login == {"username": "watch", "password": "s&p"}


def test_tls_is_spoken_with_sentinels_as_with_redis():
    """One scheme for both, and one set of certificates."""
    address = sentinel_address("rediss+sentinel://one/m?ssl_ca_certs=/ca.pem")

    assert address.url == "rediss://sentinel/0?ssl_ca_certs=%2Fca.pem"
    assert address.login == {"ssl": True, "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://secret@one:26379", "name the master"),
        ("redis+sentinel://one:26379/m/news", "database"),
        ("redis+sentinel://one:0/m", "port"),
        ("redis+sentinel://one:70000/m", "port"),
        ("redis+sentinel://one,,two/m", "host:port"),
        ("redis+sentinel:///m", "host:port"),
        ("redis+sentinel://::1/m", "host:port"),
    ],
)
def test_what_cannot_be_meant_is_said_without_the_password(url, said):
    """Errors go to logs."""
    with pytest.raises(ValueError, match=said) as caught:
        sentinel_address(url)

    assert "secret" not in str(caught.value)


@pytest.fixture
def replicated(tmp_path):
    with Replicated(tmp_path) as found:
        yield found


class Pair:
    """Both sides of the broker, listening to ``news``."""

    def __init__(self, options: BrokerOptions) -> None:
        self.inbox, self.metrics = Inbox(), Metrics()
        self.broker = open_broker(options, self.metrics)
        self.blocking = open_blocking(options, Metrics())

    async def close(self) -> None:
        await self.broker.close()
        await asyncio.to_thread(self.blocking.close)


@pytest.fixture
async def pair(replicated, prefix):
    options = BrokerOptions(
        url=replicated.sentinels.url, prefix=prefix, subscribe_timeout_s=10
    )
    pair = Pair(options)
    await pair.broker.start(pair.inbox)
    await pair.broker.subscribe("news")
    yield pair
    await pair.close()


async def hears_itself(pair: Pair) -> None:
    """What both sides publish from some moment on arrives, where the subscription is."""
    begun = len(pair.inbox.messages)
    async with asyncio.timeout(20):
        while 1 not in pair.inbox.payloads[begun:]:
            with contextlib.suppress(BrokerUnavailable):
                await pair.broker.publish([draft(1)])
            await asyncio.sleep(0.05)
        while 2 not in pair.inbox.payloads[begun:]:
            with contextlib.suppress(BrokerUnavailable):
                await asyncio.to_thread(pair.blocking.publish, [draft(2)])
            await asyncio.sleep(0.05)
        while 3 not in pair.inbox.payloads[begun:]:
            with contextlib.suppress(BrokerUnavailable):
                await asyncio.to_thread(pair.blocking.post, [draft(3)], lambda error: None)
            await asyncio.sleep(0.05)


def clients(port: int) -> int:
    """Connections to a Redis that publish or hear ``news``."""
    with contextlib.closing(redis.Redis(port=port, socket_timeout=5)) as admin:
        return len(admin.pubsub_channels("*news*"))


async def test_everybody_follows_when_the_master_is_killed(replicated, pair, until):
    """The sentinels promote the replica; both sides go there, listeners are told."""
    await hears_itself(pair)

    await asyncio.to_thread(replicated.servers[0].kill)
    await until(lambda: pair.inbox.again == ["news"], 30)

    await hears_itself(pair)
    assert await asyncio.to_thread(clients, replicated.ports[1]) == 1


async def test_everybody_follows_when_the_master_stands_still(replicated, pair, until):
    """No error anywhere: connections to it stay open, new ones are accepted. It is the
    sentinels who say that there is another, and what comes back later is left alone."""
    await hears_itself(pair)
    os.kill(replicated.servers[0].pid, signal.SIGSTOP)
    try:
        await until(lambda: pair.inbox.again == ["news"], 30)
        await hears_itself(pair)
    finally:
        os.kill(replicated.servers[0].pid, signal.SIGCONT)
    await hears_itself(pair)

    assert await asyncio.to_thread(clients, replicated.ports[1]) == 1
    assert await asyncio.to_thread(clients, replicated.ports[0]) == 0


async def test_a_planned_failover_is_followed(replicated, pair, until):
    """``SENTINEL FAILOVER``: nobody dies; the old master would refuse what is written."""
    await hears_itself(pair)

    await asyncio.to_thread(replicated.sentinels.fail_over)
    await until(lambda: pair.inbox.again == ["news"], 30)

    await hears_itself(pair)
    assert await asyncio.to_thread(clients, replicated.ports[1]) == 1


async def test_a_master_that_was_left_behind_is_left(replicated, pair, until):
    """The sentinels lost sight of it, and not we: it lives, takes what we publish and sends
    it to us. Nothing but the sentinels' word makes us go."""
    await hears_itself(pair)
    await asyncio.to_thread(_hide, replicated)

    await until(lambda: pair.metrics["redis_failovers"] == 1, 30)
    await until(lambda: pair.inbox.again == ["news"], 30)

    await hears_itself(pair)
    assert await asyncio.to_thread(clients, replicated.ports[1]) == 1


def _hide(replicated: Replicated) -> None:
    """The sentinels watch the replica as a master of its own from now on."""
    for index in range(3):
        with contextlib.closing(replicated.sentinels.sentinel(index)) as sentinel:
            sentinel.execute_command("SENTINEL REMOVE", "mymaster")
    with contextlib.closing(redis.Redis(port=replicated.ports[1])) as replica:
        replica.replicaof("NO", "ONE")
    for index in range(3):
        with contextlib.closing(replicated.sentinels.sentinel(index)) as sentinel:
            sentinel.execute_command(
                "SENTINEL MONITOR", "mymaster", "127.0.0.1", replicated.ports[1], "2"
            )


@pytest.fixture
def certificate(tmp_path):
    """Key and certificate of 127.0.0.1, which is its own authority."""
    require("openssl", shutil.which("openssl") is not None)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture
def encrypted(tmp_path, certificate):
    """A URL under which Redis and a sentinel speak TLS."""
    key, public = certificate
    port, sentinel_port = free_port(), free_port()
    tls = {
        "tls-cert-file": str(public),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(public),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }
    arguments = [part for name, value in tls.items() for part in (f"--{name}", value)]
    lines = [f"{name} {value}" for name, value in tls.items()]
    lines += [f"tls-port {sentinel_port}", ""]
    listen = ("--tls-port", str(port), "--bind", "127.0.0.1")
    with (
        RedisServer(tmp_path / "redis", arguments=(*listen, *arguments)),
        Sentinels(tmp_path, port, count=1, replicas=0, extra="\n".join(lines)),
    ):
        hosts = f"127.0.0.1:{sentinel_port}"
        yield f"rediss+sentinel://{hosts}/mymaster?ssl_ca_certs={public}"


async def test_tls_is_spoken_with_both(encrypted, prefix):
    """And the certificates of both are checked."""
    pair = Pair(BrokerOptions(url=encrypted, prefix=prefix))
    await pair.broker.start(pair.inbox)
    await pair.broker.subscribe("news")

    await hears_itself(pair)

    await pair.close()
    stranger = open_blocking(
        BrokerOptions(url=encrypted.partition("?")[0], prefix=prefix), Metrics()
    )
    with pytest.raises(BrokerUnavailable):
        await asyncio.to_thread(stranger.publish, [draft(1)])
    await asyncio.to_thread(stranger.close)


async def test_dead_sentinels_are_passed_over(replicated, pair, until):
    """Of three, two are gone, one of them mute: the third is asked."""
    first, second, _ = replicated.sentinels.pids
    os.kill(first, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    try:
        with contextlib.closing(redis.Redis(port=replicated.ports[0])) as admin:
            await asyncio.to_thread(admin.client_kill_filter, _type="pubsub")
            await asyncio.to_thread(admin.client_kill_filter, _type="normal")
        await until(lambda: pair.inbox.again == ["news"], 30)

        await hears_itself(pair)
    finally:
        os.kill(first, signal.SIGCONT)
