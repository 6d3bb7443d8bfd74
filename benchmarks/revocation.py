"""How long after its commit a change that ends rights reaches each socket: ``python -m
benchmarks.revocation``.

Two gunicorn workers serve the sockets of some users, half of them handlers' and half live
ones. Rights end user by user while all others stay connected; the clock runs from the
commit to the close frame, or the unsubscribe, at each client. Clients and changes are in
this process, so its own load is part of every figure. Writes ``results/revocation.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from redis_pubsub.testing import RedisServer
from tests.processes import Process, free_port

from .processes import ROOT, allow_many_files, machine, save

_SETTINGS = "tests.rights.settings"
_WORKERS = 2
_SESSIONS = 2
_COME_S = 30.0
_END_S = 15.0
_PAUSE_S = 0.02
_LIVE, _HANDLER = "/connection/websocket", "/mine"

Change = Callable[[Any], None]


class Client:
    """One socket, and when it was told of its end.

    Attributes:
        ended_at: ``time.monotonic()`` of the close frame or the unsubscribe.
        said: Its code.
    """

    def __init__(self, owner: User, session: int, kind: str) -> None:
        self.owner = owner
        self.session = session
        self.kind = kind
        self.ended_at = 0.0
        self.said = 0
        self.is_ended = asyncio.Event()
        self._ws: aiohttp.ClientWebSocketResponse
        self._task: asyncio.Task[None]

    async def come(
        self, http: aiohttp.ClientSession, url: str, channels: list[str]
    ) -> None:
        """Connect, and subscribe where it is a live one."""
        cookie = f"sessionid={self.owner.keys[self.session]}"
        headers = {"Cookie": cookie, "Origin": url}
        self._ws = await http.ws_connect(url + self.kind, headers=headers)
        if self.kind == _LIVE:
            commands = [{"id": 1, "connect": {}}] + [
                {"id": n, "subscribe": {"channel": channel}}
                for n, channel in enumerate(channels, 2)
            ]
            await self._ws.send_str("\n".join(map(json.dumps, commands)))
            waiting = set(range(1, len(commands) + 1))
            while waiting:
                for line in (await self._ws.receive_str()).split("\n"):
                    reply = json.loads(line)
                    if "error" in reply:
                        raise RuntimeError(f"not let in: {reply}")
                    waiting.discard(reply.get("id"))
        else:
            await self._ws.receive_str()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._ws:
            if message.data == "{}":
                await self._ws.send_str("{}")
            elif '"unsubscribe"' in message.data:
                push = json.loads(message.data)["push"]
                self._end(push["unsubscribe"]["code"])
        self._end(self._ws.close_code or 0)

    def _end(self, code: int) -> None:
        if not self.is_ended.is_set():
            self.ended_at, self.said = time.monotonic(), code
            self.is_ended.set()

    async def go(self) -> None:
        await self._ws.close()
        await self._task


class User:
    """A user with his sessions, a subscription, and the group that all are in."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.row: Any = None
        self.browsers: list[Any] = []
        self.keys: list[str] = []

    @property
    def channel(self) -> str:
        return f"own:{self.number}"

    def renew(self) -> None:
        """Give him all rights, whatever was taken."""
        from django.contrib.auth import get_user_model
        from django.contrib.auth.models import Group
        from django.test import Client as Browser

        from redis_pubsub.models import Channel

        users = get_user_model().objects
        self.row, _ = users.update_or_create(
            username=f"user{self.number}", defaults={"is_active": True}
        )
        self.row.groups.add(Group.objects.get_or_create(name="staff")[0])
        Channel.objects.get_or_create(name=self.channel)[0].subscribe(self.row)
        self.browsers = [Browser() for _ in range(_SESSIONS)]
        for browser in self.browsers:
            browser.force_login(self.row)
        self.keys = [browser.cookies["sessionid"].value for browser in self.browsers]


# -- what ends rights --------------------------------------------------------------------


def _deactivate(user: User) -> None:
    user.row.is_active = False
    user.row.save()


def _change_password(user: User) -> None:
    user.row.set_password(f"new {time.monotonic()}")
    user.row.save()


def _log_out(user: User) -> None:
    user.browsers[0].logout()


def _turn_off(user: User) -> None:
    row = user.row.subscriptions.get(channel__name=user.channel)
    row.active = False
    row.save()


def _clear_group(user: User) -> None:
    from django.contrib.auth.models import Group

    Group.objects.get(name="staff").permissions.clear()


def _of_first_session(client: Client) -> bool:
    return client.session == 0


def _everything(client: Client) -> bool:
    return True


# name: the change, whose sockets it ends, with what code, only live ones, all users at once
CASES: dict[str, tuple[Change, Callable[[Client], bool], int, bool, bool]] = {
    "is_active=False": (_deactivate, _everything, 3507, False, False),
    "logout": (_log_out, _of_first_session, 3503, False, False),
    "password change": (_change_password, _everything, 3005, False, False),
    "Subscription.active=False": (_turn_off, _everything, 2000, True, False),
    "group change": (_clear_group, _everything, 2000, True, True),
}


def _committed(change: Change, user: User) -> float:
    """Make a change; when it was committed, by ``time.monotonic()``."""
    from django.db import transaction

    moments: list[float] = []
    with transaction.atomic():
        # The first hook of all: what is told is told after it.
        transaction.on_commit(lambda: moments.append(time.monotonic()))
        change(user)
    return moments[0]


# -- measuring ---------------------------------------------------------------------------


async def _measure_case(
    name: str, url: str, users: list[User], each: int
) -> dict[str, Any]:
    change, is_meant, code, only_live, at_once = CASES[name]
    await asyncio.to_thread(_renew, users)
    clients = [
        Client(user, n % _SESSIONS, _LIVE if only_live or n // _SESSIONS % 2 else _HANDLER)
        for user in users
        for n in range(each)
    ]
    connector = aiohttp.TCPConnector(limit=0)
    gate = asyncio.Semaphore(20)
    latencies: list[float] = []
    async with aiohttp.ClientSession(connector=connector) as http:

        async def come(client: Client) -> None:
            channel = "accounts" if at_once else client.owner.channel
            async with gate:
                await client.come(http, url, [channel] if only_live else [])

        async with asyncio.timeout(_COME_S):
            await asyncio.gather(*map(come, clients))
        for group in [users] if at_once else [[user] for user in users]:
            await asyncio.sleep(_PAUSE_S)
            meant = [each for each in clients if each.owner in group and is_meant(each)]
            at = await asyncio.to_thread(_committed, change, group[0])
            async with asyncio.timeout(_END_S):
                await asyncio.gather(*(client.is_ended.wait() for client in meant))
            if {client.said for client in meant} != {code}:
                raise RuntimeError(f"{name}: { ({c.said for c in meant}) } is not {code}")
            latencies += [client.ended_at - at for client in meant]
        ended = sum(client.is_ended.is_set() for client in clients)
        if ended != len(latencies):
            raise RuntimeError(f"{name}: {ended} ended, {len(latencies)} were meant")
        await asyncio.gather(*(client.go() for client in clients))
    return {
        "sockets": len(clients),
        "changes": 1 if at_once else len(users),
        "code": code,
        "ended": len(latencies),
        "latency_ms": _percentiles(latencies),
    }


def _percentiles(latencies: Iterable[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    at = {"p50": 0.5, "p99": 0.99}
    figures = {name: ordered[int(share * (len(ordered) - 1))] for name, share in at.items()}
    return {
        name: round(1000 * value, 1)
        for name, value in (figures | {"max": ordered[-1]}).items()
    }


def _renew(users: list[User]) -> None:
    from django.contrib.auth.models import Group, Permission

    staff, _ = Group.objects.get_or_create(name="staff")
    staff.permissions.set(Permission.objects.filter(codename="change_user"))
    for user in users:
        user.renew()


@contextmanager
def _server() -> Iterator[str]:
    """Redis, a new database and gunicorn; yields the server's URL. Sets up Django here."""
    with tempfile.TemporaryDirectory() as directory, RedisServer() as redis_server:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": _SETTINGS,
            "RIGHTS_DATABASE": str(Path(directory) / "rights.sqlite3"),
            "REDIS_URL": redis_server.url,
        }
        migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, check=True, cwd=ROOT)
        import django

        django.setup()
        port = free_port()
        command = ["-m", "gunicorn", "tests.rights.application:application"]
        command += ["--worker-class", "aiohttp.worker.GunicornWebWorker"]
        command += ["--no-control-socket", "--workers", str(_WORKERS)]
        command += ["--bind", f"127.0.0.1:{port}", "--backlog", "2048"]
        with Process(*command, env={}) as server:
            server.wait_for("Booting worker", times=_WORKERS)
            server.wait_for_port(port)
            yield f"http://127.0.0.1:{port}"
            server.end()


async def _measure(url: str, options: argparse.Namespace) -> dict[str, Any]:
    users = [User(number) for number in range(options.users)]
    each = options.sockets // options.users
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for _ in range(options.rounds):
        for name in random.sample(list(CASES), len(CASES)):
            results[name].append(await _measure_case(name, url, users, each))
            print(f"{name}: {results[name][-1]['latency_ms']}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    allow_many_files()
    with _server() as url:
        results = asyncio.run(_measure(url, options))
    result = {"options": vars(options) | {"workers": _WORKERS}, "machine": machine()}
    print("written to", save("revocation", "asyncio", result | {"rounds": results}))


if __name__ == "__main__":
    main()
