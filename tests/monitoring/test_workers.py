"""The numbers of several processes: joined, fresh, and never falling."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys

import aiohttp
import pytest

from redis_pubsub.contrib.monitoring import directory
from redis_pubsub.contrib.monitoring.directory import Directory
from redis_pubsub.contrib.monitoring.numbers import Numbers, Reading, joined
from redis_pubsub.metrics import MAX, MIN, SUM
from tests.processes import ROOT, Process, free_port

prometheus = pytest.importorskip("prometheus_client")


def test_each_gauge_says_how_it_is_joined():
    """Sums, the largest, the smallest; labels are kept apart."""

    def process(value):
        return Numbers(
            {"deliveries": value, f"only_{value}": 1},
            (
                Reading("open", "", value, SUM, (("kind", "live"),)),
                Reading("open", "", 1, SUM, (("kind", "handler"),)),
                Reading("lag", "", value, MAX),
                Reading("is_ready", "", value, MIN),
            ),
        )

    both = joined([process(2), process(5)])

    assert both.counters == {"deliveries": 7, "only_2": 1, "only_5": 1}
    assert [reading.value for reading in both.gauges] == [7, 2, 5, 2]


def test_what_a_dead_process_counted_is_kept_and_its_gauges_are_not(tmp_path):
    """However it ended, and however often is asked: a sum that fell would look like a
    restart of everything."""
    path = tmp_path / "numbers"
    mine, other = Directory(path, "mine"), Directory(path, "other")
    other.leave(Numbers({"deliveries": 3}, (Reading("open", "", 1, SUM),)))
    (living, _) = mine.others()
    assert living.numbers.counters == {"deliveries": 3}

    other.close()
    again = Directory(path, "again")
    again.leave(Numbers({"deliveries": 4}, (Reading("open", "", 1, SUM),)))

    for _ in range(2):
        together = joined([each.numbers for each in mine.others()])
        assert together.counters == {"deliveries": 7}
        assert [reading.value for reading in together.gauges] == [1]
    assert not list(path.glob("other*"))
    again.close()
    mine.close()
    assert not path.exists()


def test_the_last_process_leaves_nothing(tmp_path):
    """While another lives everything stays."""
    path = tmp_path / "numbers"
    one, other = Directory(path, "one"), Directory(path, "other")
    one.leave(Numbers({"deliveries": 1}))

    one.close()
    assert path.exists()
    other.close()

    assert not path.exists()


def test_somebody_elses_directory_is_refused(tmp_path):
    """A link that another user may have laid is not followed."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(PermissionError):
        Directory(tmp_path / "link", "mine")


def test_what_dead_servers_left_is_swept(tmp_path, monkeypatch):
    """Those that live keep theirs."""
    monkeypatch.setattr(directory, "_base", lambda: tmp_path)
    lives = tmp_path / f"{os.getpid()}-{directory._started(os.getpid())}"
    for path in (lives, tmp_path / f"{os.getpid()}-1", tmp_path / "unrelated"):
        path.mkdir()

    directory.sweep()

    assert {path.name for path in tmp_path.iterdir()} == {lives.name, "unrelated"}


# -- with gunicorn ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    env = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_DATA": str(path)}
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env={**os.environ, **env, "TEST_RUN": "monitoring"},
        check=True,
    )
    return path


@pytest.fixture
def env(redis_server, data, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATA": str(data),
        "TEST_RUN": "monitoring",
        "REDIS_URL": redis_server.url,
        "TMPDIR": str(temporary),
    }


class Site:
    """Two workers of gunicorn, and what they show."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def scrape(self) -> dict[str, float]:
        # On a connection of its own, so that either worker may be asked.
        headers = {"Connection": "close"}
        async with self.http.get(self.url + "/metrics", headers=headers) as answer:
            assert answer.status == 200
            text = await answer.text()
        return {
            name: float(value)
            for name, value in re.findall(r"^(redis_pubsub_\S+) (\S+)$", text, re.MULTILINE)
        }

    async def until(self, condition):
        """The first scrape that shows what is expected."""
        async with asyncio.timeout(20):
            while not condition(shown := await self.scrape()):
                await asyncio.sleep(0.1)
        return shown

    async def until_all(self, condition):
        """Many scrapes at once, whoever is asked, show what is expected."""
        async with asyncio.timeout(20):
            while True:
                shown = await asyncio.gather(*(self.scrape() for _ in range(30)))
                if all(map(condition, shown)):
                    return
                await asyncio.sleep(0.1)

    async def knock(self, count):
        """Handshakes that one worker or the other refuses."""
        for _ in range(count):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await self.http.ws_connect(
                    self.url + "/hear/news", headers={"Origin": "https://elsewhere.example"}
                )
        return count

    async def open(self, count):
        """Sockets on both workers; the process each of them is in."""
        sockets = await asyncio.gather(
            *(self.http.ws_connect(self.url + "/hear/news") for _ in range(count))
        )
        return sockets, [int(await ws.receive_str()) for ws in sockets]


CONNECTIONS = 'redis_pubsub_connections{kind="handler"}'
REFUSED = "redis_pubsub_handshakes_refused_total"


@pytest.mark.parametrize("named", [False, True], ids=["by itself", "named directory"])
@pytest.mark.may_block(reason="starts and stops server processes")
async def test_whichever_worker_is_asked_shows_both(env, named, tmp_path):
    """gunicorn -w 2: every scrape has the sums; a killed worker's counts are not lost."""
    if named:
        (tmp_path / "multi").mkdir()
        env |= {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "multi")}
    port = free_port()
    with Process(
        *("-m", "gunicorn", "deployment:application", "--bind", f"127.0.0.1:{port}"),
        *("--no-control-socket", "--worker-class", "aiohttp.worker.GunicornWebWorker"),
        *("--workers", "2"),
        env=env,
    ) as server:
        server.wait_for("Booting worker", times=2)
        server.wait_for_port(port)
        site = Site(port)
        await site.until(lambda shown: shown["redis_pubsub_workers"] == 2)
        sockets, processes = await site.open(40)
        while len({*processes}) < 2:
            more = await site.open(20)
            sockets, processes = sockets + more[0], processes + more[1]
        # Both workers are asked in many scrapes, and each shows everything; of the other
        # as it was a second ago.
        await site.until_all(lambda shown: shown[CONNECTIONS] == len(sockets))
        await site.until_all(lambda shown: shown["redis_pubsub_workers"] == 2)
        await site.until(lambda shown: shown["redis_pubsub_is_ready"] == 1)

        refused = await site.knock(40)
        # Also in what each has left for the other: that is what a killed one leaves.
        await site.until_all(lambda shown: shown.get(REFUSED) == refused)
        os.kill(processes[0], signal.SIGKILL)
        server.wait_for("Booting worker", times=3)
        left = sum(1 for process in processes if process != processes[0])
        await site.until_all(
            lambda shown: shown[CONNECTIONS] == left and shown["redis_pubsub_workers"] == 2
        )
        await site.until_all(lambda shown: shown[REFUSED] == refused)
        await site.http.close()
        assert server.end() == 0, server.output
        assert "Traceback" not in server.output
    assert not list((tmp_path / "tmp").glob("redis-pubsub-metrics-*"))
    assert not (tmp_path / "multi" / "redis-pubsub").exists()
