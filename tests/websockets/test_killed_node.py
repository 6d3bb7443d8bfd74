"""A serving process that is killed, with the times that sites have."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import aiohttp
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from redis_pubsub import presence, publish
from tests.processes import Process

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.may_block(reason="starts and kills a server process"),
]

HEALED_S = 80
"""A process counts as dead after 20 s; the rest is for machines that are busy."""


@pytest.fixture
def both(settings, site, tmp_path):
    """Settings of this process and of another; gives the other's environment."""
    live = {"anonymous": True}
    room = {"subscribe": "anyone", "presence": True, "join_leave": True}
    settings.REDIS_PUBSUB = site | {"live": live, "channels": {"room": room}}
    (tmp_path / "node_settings.py").write_text(
        "from tests.settings import *\n"
        f"DATABASES['default']['NAME'] = {connection.settings_dict['NAME']!r}\n"
        f"REDIS_PUBSUB = {settings.REDIS_PUBSUB!r}\n"
    )
    return {"DJANGO_SETTINGS_MODULE": "node_settings", "PYTHONPATH": str(tmp_path)}


class Member:
    """A live client in the room, which answers pings."""

    @classmethod
    async def of(cls, http, url):
        self = cls()
        self.ws = await http.ws_connect(f"{url}/connection/websocket")
        wish = '{"id":2,"subscribe":{"channel":"room","join_leave":true}}'
        await self.ws.send_str('{"id":1,"connect":{}}\n' + wish)
        self.lines = []
        self.id = (await self.next())["connect"]["client"]
        assert "subscribe" in await self.next()
        return self

    async def next(self):
        while not self.lines:
            for line in (await self.ws.receive_str()).split("\n"):
                if line == "{}":
                    await self.ws.send_str("{}")
                else:
                    self.lines.append(json.loads(line))
        return self.lines.pop(0)

    async def push(self, kind):
        """What is said of others, or the data of a publication."""
        while True:
            push = (await self.next())["push"]
            if kind == "pub" and kind in push:
                return push["pub"]["data"]
            if kind in push and push[kind]["info"]["client"] != self.id:
                return push[kind]["info"]["client"]


async def listed():
    return sorted(member.client for member in await sync_to_async(presence)("room"))


@pytest.mark.timeout(180)
async def test_a_rooms_list_heals_after_kill_9(serve, both):
    """C-7, W-13: those who were on the process leave, once, for everybody to hear; Django's
    list has them no more; who is on another process stays, and hears what is said."""
    served = await serve()
    survivor = await Member.of(served.http, served.url)
    command = ("-m", "django", "pubsub_serve", "--noreload")
    port = ("--host", "127.0.0.1", "--port", "0")

    with Process(*command, *port, env=both) as node:
        await asyncio.to_thread(node.wait_for, "Server running on http://")
        url = "http://" + re.search(r"127\.0\.0\.1:\d+", node.output)[0]
        async with aiohttp.ClientSession() as http, asyncio.timeout(HEALED_S):
            victims = [await Member.of(http, url) for _ in range(2)]
            ids = sorted(each.id for each in victims)
            assert sorted([await survivor.push("join") for _ in ids]) == ids
            assert await listed() == sorted([survivor.id, *ids])

            node.send(signal.SIGKILL)
            assert sorted([await survivor.push("leave") for _ in ids]) == ids

    assert await listed() == [survivor.id]
    await sync_to_async(publish)("room", "still here")
    async with asyncio.timeout(10):
        assert await survivor.push("pub") == "still here"
    await survivor.ws.close()
