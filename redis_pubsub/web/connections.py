"""The open sockets of a process, so that it can say goodbye to them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from typing import Protocol

import msgspec
from aiohttp import WSCloseCode

from ..codes import Code, Disconnects
from ..engine import ControlEvent, Engine
from ..metrics import Gauge

logger = logging.getLogger("redis_pubsub.websockets")

_RECENT = 1_000
"""Ends that are remembered for those who are being let in."""
_WAVE_S = 0.1
_WAVE_LEAST = 50
"""Sockets that are closed together; more if the time would not be enough."""
_WAVES_SHARE = 0.5
"""Part of the time in which the last wave has begun; the rest is for answers."""
_RETURNS_PER_S = 500.0
"""How many of the clients that were sent away are asked to come back each second."""
HANDLER, LIVE = "handler", "live"
GOING_AWAY = "the server is restarting"


class Connection(Protocol):
    """One open socket.

    Attributes:
        id: Unguessable, unique in the cluster.
        user_id: Its user's primary key as text; ``""`` for nobody.
        kind: `HANDLER` or `LIVE`.
    """

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    def disconnect(self, code: Code) -> None:
        """Close it because somebody wants that; without waiting."""

    async def go_away(self, code: int, reason: str, delay_s: float) -> None:
        """Close it and wait until that is done; its client may come back after so long."""

    def hang_up(self, code: int, reason: str, delay_s: float) -> None:
        """Close it without waiting."""


class Connections:
    """The open sockets of one engine.

    When they are all closed, their clients go to the other processes, of which each can
    greet so many a second. So each is told when to come back: `_RETURNS_PER_S` a second,
    evenly, and the last after the setting ``reconnect_spread_s`` at most.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: set[Connection] = set()
        self._kinds: Counter[str] = Counter()
        self._is_draining = False
        self._recent: deque[tuple[float, set[str], Code]] = deque(maxlen=_RECENT)
        engine.control.handlers.append(self._heard)
        for kind in (HANDLER, LIVE):
            self._show(kind)

    def _show(self, kind: str) -> None:
        self._engine.gauges.add(
            Gauge(
                "connections",
                "Open sockets, and streams of the live endpoint",
                lambda: self.count(kind),
                labels=(("kind", kind),),
            )
        )

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_draining(self) -> bool:
        """Whether new sockets are refused: this process is about to end."""
        return self._is_draining

    def add(self, connection: Connection) -> None:
        if connection not in self._open:
            self._open.add(connection)
            self._kinds[connection.kind] += 1

    def discard(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._kinds[connection.kind] -= 1

    def count(self, kind: str) -> int:
        """How many of a kind are open."""
        return self._kinds[kind]

    def ended_since(self, moment: float, user_id: str) -> Code | None:
        """Whether somebody ended a user's connections since a moment: one that was still
        being let in then is to end as well.

        Args:
            moment: Of ``time.monotonic()``.
            user_id: Primary key as text.
        """
        if not user_id:
            return None
        return next(
            (code for at, users, code in self._recent if at >= moment and user_id in users),
            None,
        )

    def _heard(self, event: ControlEvent) -> None:
        if event.kind != "disconnect":
            return
        users, code = set(event.users) - {""}, _code_of(event)
        self._recent.append((time.monotonic(), users, code))
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
            returns = self._returns(leaving, loop.time())
            tasks = []
            for begin in range(0, len(leaving), size):
                if begin:
                    await asyncio.sleep(_WAVE_S)
                now = loop.time()
                tasks += [
                    asyncio.create_task(
                        each.go_away(WSCloseCode.GOING_AWAY, GOING_AWAY, max(0, at - now))
                    )
                    for each, at in returns[begin : begin + size]
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
        leaving = list(self._open)
        random.shuffle(leaving)
        for connection, after_s in self._returns(leaving, 0):
            connection.hang_up(WSCloseCode.GOING_AWAY, GOING_AWAY, after_s)

    def _returns(
        self, leaving: list[Connection], now: float
    ) -> list[tuple[Connection, float]]:
        """When each client should be back."""
        longest_s = self._engine.config.reconnect_spread_s
        each_s = min(1 / _RETURNS_PER_S, longest_s / max(1, len(leaving)))
        return [(each, now + i * each_s) for i, each in enumerate(leaving)]


def _code_of(event: ControlEvent) -> Code:
    """What was asked for, as far as it is something a client understands."""
    if not 3000 <= event.code <= 4999:
        return Disconnects.FORCE_DISCONNECT
    reason = event.reason
    if not reason or _is_json(reason):
        # Clients of the live endpoint take JSON for orders that overrule the code.
        reason = Disconnects.FORCE_DISCONNECT.reason
    return Code(event.code, reason)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True
