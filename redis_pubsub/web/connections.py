"""The open sockets of a process, so that it can say goodbye to them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
from aiohttp import WSCloseCode

from ..codes import Code, Disconnects
from ..engine import ControlEvent, Engine
from ..metrics import Gauge
from .by_user import ByUser
from .outlet import Outlet
from .stalls import Stalls

if TYPE_CHECKING:
    from ..auth import Standing

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
HANDLER, LIVE, EVENTS = "handler", "live", "sse"
GOING_AWAY = "the server is restarting"


class Connection(Protocol):
    """One open socket.

    Attributes:
        id: Unguessable, unique in the cluster.
        user_id: Its user's primary key as text; ``""`` for nobody.
        kind: `HANDLER`, `LIVE` or `EVENTS`.
        standing: By what right it is open; ``None`` for nobody.
    """

    @property
    def standing(self) -> Standing | None: ...

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    @property
    def outlet(self) -> Outlet | None:
        """Where its bytes leave; ``None`` before it is open."""

    def send(self, raw: bytes) -> None:
        """Send JSON to its client, beside all channels; without waiting."""

    def disconnect(self, code: Code) -> None:
        """Close it because somebody wants that; without waiting."""

    async def go_away(self, code: int, reason: str, delay_s: float) -> None:
        """Close it and wait until that is done; its client may come back after so long."""

    def hang_up(self, code: int, reason: str, delay_s: float) -> None:
        """Close it without waiting."""


@dataclass(frozen=True, slots=True)
class _End:
    """What somebody ended, and when, by ``time.monotonic()``."""

    at: float
    users: frozenset[str]
    digest: str
    code: Code

    def means(self, user_id: str, standing: Standing | None) -> bool:
        """Whether a connection is among it. Without users a digest means anybody's."""
        if not self.digest:
            return user_id in self.users
        is_users = not self.users or user_id in self.users
        return is_users and standing is not None and standing.digest == self.digest


class Connections:
    """The open sockets of one engine.

    When they are all closed, their clients go to the other processes, of which each can
    greet so many a second. So each is told when to come back: `_RETURNS_PER_S` a second,
    evenly, and the last after the setting ``reconnect_spread_s`` at most.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: set[Connection] = set()
        self._users: ByUser[Connection] = ByUser()
        self._by_id: dict[str, Connection] = {}
        self._kinds: Counter[str] = Counter()
        self._is_draining = False
        self._recent: deque[_End] = deque(maxlen=_RECENT)
        engine.control.handlers.append(self._heard)
        deadline_s = engine.config.limits.write_deadline_s
        self._stalls = Stalls(self._open, deadline_s, self._stalled)
        engine.closing.callback(self._stalls.close)
        for kind in (HANDLER, LIVE, EVENTS):
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
            self._by_id[connection.id] = connection
            self._kinds[connection.kind] += 1
            self._stalls.arm()
            self.identified(connection)

    def identified(self, connection: Connection) -> None:
        """It is known by now whose a connection is."""
        if connection.user_id and connection in self._open:
            self._users.add(connection.user_id, connection)

    def discard(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._by_id.pop(connection.id, None)
            self._kinds[connection.kind] -= 1
            self._users.discard(connection.user_id, connection)

    def __contains__(self, connection: object) -> bool:
        return connection in self._open

    @property
    def users(self) -> list[str]:
        """Who is connected here, by primary key as text."""
        return list(self._users)

    def of_user(self, user: str) -> list[Connection]:
        """The connections of a user, by primary key as text."""
        return self._users.of(user)

    def _stalled(self, connection: Connection) -> None:
        self._engine.metrics.count("stalled_disconnects")
        connection.disconnect(Disconnects.WRITE_ERROR)

    def get(self, id: str) -> Connection | None:
        """The open socket of an id, if it is in this process."""
        return self._by_id.get(id)

    def count(self, kind: str) -> int:
        """How many of a kind are open."""
        return self._kinds[kind]

    def ended_since(self, moment: float, standing: Standing | None) -> Code | None:
        """Whether somebody ended a user's connections since a moment: one that was still
        being let in then is to end as well.

        Args:
            moment: Of ``time.monotonic()``.
            standing: Who it is; ``None`` for nobody.
        """
        if standing is None:
            return None
        user_id = standing.user_id
        return next(
            (
                end.code
                for end in self._recent
                if end.at >= moment and end.means(user_id, standing)
            ),
            None,
        )

    def _heard(self, event: ControlEvent) -> None:
        if event.kind == "send":
            addressed = self.get(event.client)
            if addressed is not None:
                self._engine.metrics.count("sent_to_connections")
                addressed.send(bytes(event.data))
            return
        if event.kind != "disconnect":
            return
        users = frozenset(event.users) - {""}
        end = _End(time.monotonic(), users, event.digest, _code_of(event))
        self._recent.append(end)
        for connection in self._among(users, event):
            is_named = bool(event.client) and connection.id == event.client
            if is_named or end.means(connection.user_id, connection.standing):
                connection.disconnect(end.code)

    def _among(self, users: frozenset[str], event: ControlEvent) -> list[Connection]:
        """Where to look for what is to end."""
        if users and not event.client:
            return [each for user in users for each in self._users.of(user)]
        return list(self._open)

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
