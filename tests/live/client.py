"""A client of the live endpoint that hides nothing: commands out, replies and pushes in."""

from __future__ import annotations

import asyncio
import itertools
import json

import aiohttp

TIMEOUT_S = 5.0


class Live:
    """One WebSocket, JSON form.

    Attributes:
        ws: aiohttp's own.
        pings: How many came.
        answers: Whether it answers them.
    """

    def __init__(self, ws):
        self.ws = ws
        self.pings = 0
        self.answers = True
        self._ids = itertools.count(1)
        self._heard = []

    async def say(self, *commands):
        """Send commands in one frame; gives their ids."""
        lines = []
        for command in commands:
            command.setdefault("id", next(self._ids))
            lines.append(json.dumps(command))
        await self.ws.send_str("\n".join(lines))
        return [command["id"] for command in commands]

    async def hear(self):
        """The next reply or push, pings left out."""
        if self._heard:
            return self._heard.pop(0)
        return await self._read()

    async def _read(self):
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                message = await self.ws.receive()
            assert message.type is aiohttp.WSMsgType.TEXT, message
            replies = [json.loads(line) for line in message.data.split("\n")]
            assert all(isinstance(reply, dict) for reply in replies)
            for _ in filter(lambda reply: not reply, replies):
                self.pings += 1
                if self.answers:
                    await self.ws.send_str("{}")
            replies = [reply for reply in replies if reply]
            if replies:
                self._heard += replies[1:]
                return replies[0]

    async def reply_to(self, command_id):
        """The reply to a command; what comes before it is kept for `hear`."""
        kept = []
        while True:
            reply = await self.hear()
            if reply.get("id") == command_id:
                self._heard = kept + self._heard
                return reply
            kept.append(reply)

    async def push(self, kind, channel=None):
        """The next push of a kind (of a channel); others are kept for `hear`."""
        kept = []
        while True:
            push = (await self.hear()).get("push")
            is_meant = push is not None and kind in push
            if is_meant and channel in (None, push.get("channel")):
                self._heard = kept + self._heard
                return push[kind]
            kept.append({"push": push})

    async def call(self, kind, **fields):
        """Say one command and give its reply."""
        (command_id,) = await self.say({kind: fields})
        return await self.reply_to(command_id)

    async def result(self, kind, **fields):
        """Say one command and give its result."""
        reply = await self.call(kind, **fields)
        assert kind in reply, reply
        return reply[kind]

    async def error(self, kind, **fields):
        """Say one command and give the code of its error."""
        reply = await self.call(kind, **fields)
        assert "error" in reply, reply
        assert reply["error"]["message"]
        return reply["error"]["code"]

    async def subscribe(self, channel, **fields):
        return await self.result("subscribe", channel=channel, **fields)

    async def silent(self):
        """All that was sent so far has been heard, and these are the pushes among it."""
        (command_id,) = await self.say({"ping": {}})
        await self.reply_to(command_id)
        heard, self._heard = self._heard, []
        return heard

    async def ended(self):
        """Wait for the close frame; its code and reason."""
        while True:
            async with asyncio.timeout(TIMEOUT_S):
                message = await self.ws.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), (
                message
            )


def subscribe(channel, **fields):
    return {"subscribe": {"channel": channel, **fields}}


def datas(publications):
    return [publication["data"] for publication in publications]
