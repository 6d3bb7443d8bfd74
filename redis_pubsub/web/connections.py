"""The open sockets of a process, so that it can say goodbye to them."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from aiohttp import WSCloseCode

from ..codes import Code, Disconnects
from ..engine import ControlEvent, Engine

logger = logging.getLogger("redis_pubsub.websockets")

_WAVE_S = 0.1
_WAVE_LEAST = 50
"""Sockets that are closed together; more if the time would not be enough."""
_WAVES_SHARE = 0.5
"""Part of the time in which the last wave has begun; the rest is for answers."""
GOING_AWAY = "the server is restarting"


class Connection(Protocol):
    """One open socket.

    Attributes:
        id: Unguessable, unique in the cluster.
        user_id: Its user's primary key as text; ``""`` for nobody.
    """

    @property
    def id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    def disconnect(self, code: Code) -> None:
        """Close it because somebody wants that; without waiting."""

    async def go_away(self, code: int, reason: str) -> None:
        """Close it and wait until that is done."""

    def hang_up(self, code: int, reason: str) -> None:
        """Close it without waiting."""


class Connections:
    """The open sockets of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: set[Connection] = set()
        self._is_draining = False
        engine.control.handlers.append(self._heard)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_draining(self) -> bool:
        """Whether new sockets are refused: this process is about to end."""
        return self._is_draining

    def add(self, connection: Connection) -> None:
        self._open.add(connection)

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _heard(self, event: ControlEvent) -> None:
        if event.kind != "disconnect":
            return
        users, code = set(event.users) - {""}, _code_of(event)
        for connection in list(self._open):
            if connection.user_id in users or connection.id == event.client:
                connection.disconnect(code)

    async def drain(self, timeout_s: float) -> None:
        """Say goodbye to every socket while its client can still answer, in waves: not all
        of them come back to the other processes in one moment.

        Those that do not answer within the time are hung up on.
        """
        self._is_draining = True
        if self._open:
            logger.info("closing %d socket(s)", len(self._open))
            loop = asyncio.get_running_loop()
            until = loop.time() + timeout_s
            leaving = list(self._open)
            random.shuffle(leaving)
            waves = max(1, int(timeout_s * _WAVES_SHARE / _WAVE_S))
            size = max(_WAVE_LEAST, -(-len(leaving) // waves))
            tasks = []
            for begin in range(0, len(leaving), size):
                if begin:
                    await asyncio.sleep(_WAVE_S)
                tasks += [
                    asyncio.create_task(each.go_away(WSCloseCode.GOING_AWAY, GOING_AWAY))
                    for each in leaving[begin : begin + size]
                ]
            _, late = await asyncio.wait(tasks, timeout=max(0, until - loop.time()))
            self.hang_up()
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def hang_up(self) -> None:
        """Close every socket with 1001 now."""
        self._is_draining = True
        for connection in list(self._open):
            connection.hang_up(WSCloseCode.GOING_AWAY, GOING_AWAY)


def _code_of(event: ControlEvent) -> Code:
    """What was asked for, as far as it is something a client understands."""
    if 3000 <= event.code <= 4999:
        return Code(event.code, event.reason or Disconnects.FORCE_DISCONNECT.reason)
    return Disconnects.FORCE_DISCONNECT
