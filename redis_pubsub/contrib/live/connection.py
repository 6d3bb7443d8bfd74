"""One live connection: carries out what its client says, and is fed by the hub."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from ...auth.tokens import Claims
from ...codes import Code, Disconnects, Unsubscribes
from ...frames import Framing
from ...web.handshake import Credentials
from . import calls
from .connecting import connect, refresh, sub_refresh
from .entering import Entering, Entry
from .line import Line
from .protocol.commands import NO_DATA, Command
from .protocol.results import ClientInfo, Empty, SubscribeResult
from .protocol.session import Session, State

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from .server import LiveServer

logger = logging.getLogger("redis_pubsub.live")

_PLAIN = {
    "connect": connect,
    "refresh": refresh,
    "sub_refresh": sub_refresh,
    "publish": calls.publish,
    "presence": calls.presence,
    "presence_stats": calls.presence_stats,
    "history": calls.history,
    "rpc": calls.rpc,
    "send": calls.send,
}


class Feedline:
    """What the hub feeds of a connection: one for all its channels.

    Attributes:
        write: The way out; nothing of the connection is on the path.
    """

    __slots__ = ("_connection", "connection_id", "framing", "write")

    def __init__(self, connection: Connection, framing: Framing) -> None:
        self._connection = connection
        self.connection_id = connection.id
        self.framing = framing
        self.write = connection.line.outlet.write

    def position_lost(self, channel: str) -> None:
        self._connection.position_lost(channel)


class Connection:
    """One live connection, from its first byte to its last.

    Args:
        server: What it belongs to.
        line: The way to its client.
        credentials: What the handshake brought along.

    Attributes:
        id: Unguessable, unique in the cluster; its client knows it.
        user: Who it is; ``None`` for nobody, and before it has connected.
        session: What was said so far.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_ended",
        "_joins",
        "_patience",
        "_seat",
        "_timers",
        "conn_info",
        "credentials",
        "id",
        "line",
        "listener",
        "server",
        "session",
        "user",
    )

    def __init__(self, server: LiveServer, line: Line, credentials: Credentials) -> None:
        self.server = server
        self.line = line
        self.credentials = credentials
        self.id = uuid.uuid4().hex
        self.user: AbstractBaseUser | None = None
        self.conn_info = NO_DATA
        self.session = Session(line.form, server.limits.live_channels)
        line.connection = self
        self.listener = Feedline(self, line.form.publication)
        self._joins: Feedline | None = None
        self._calls: set[asyncio.Task[None]] | None = None
        # Ends of permissions, by channel; "" for the connection's own.
        self._timers: dict[str, asyncio.TimerHandle] | None = None
        self._seat: int | None = None
        self._ended: asyncio.Event | None = None
        self._patience: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            server.limits.live_connect_s, self.end, Disconnects.STALE
        )
        server.add(self)

    # -- what the client says ------------------------------------------------------------

    async def hear(self, data: bytes | str) -> None:
        """Carry out a frame's commands, in order."""
        try:
            await self._carry_out(self.session.receive(data))
        except Exception:
            self.server.engine.metrics.count("live_errors")
            logger.exception("a command of connection %s failed", self.id)
            self.session.end(Disconnects.INTERNAL_ERROR)
        self.flush()

    async def _carry_out(self, commands: list[Command]) -> None:
        done = 0
        while done < len(commands) and self.session.ending is None:
            command = commands[done]
            if command.subscribe is not None:
                batch = _leading_subscribes(commands[done:])
                await self._subscribe(batch)
                done += len(batch)
            elif command.unsubscribe is not None:
                self._unsubscribe(command, command.unsubscribe.channel)
                done += 1
            else:
                await self._one(command)
                done += 1
            self.flush()
            if self.session.state is not State.CONNECTED:
                # A refused connect: what came along with it is not carried out.
                return

    async def _one(self, command: Command) -> None:
        kind = command.kind
        if kind == "ping":
            self.session.answer(command, Empty())
        else:
            await _PLAIN[kind](self, command)

    async def _subscribe(self, commands: list[Command]) -> None:
        """Subscribe to several channels at once: one query, one read of each stream."""
        begun: list[tuple[Command, Entry]] = []
        for command in commands:
            wish = command.subscribe
            assert wish is not None, "a batch of subscribe commands"
            wrong = self.session.begin(wish)
            if wrong is None:
                begun.append((command, Entry(wish.channel, wish)))
            else:
                self.session.fail(command, wrong)
        entered = []
        changes = self.server.changes
        async with Entering(self, [entry for _, entry in begun]) as entering:
            await entering.prepare()
            if self.session.ending is not None:
                return
            for command, entry in begun:
                outcome = entering.admit(entry)
                if isinstance(outcome, SubscribeResult):
                    self.session.subscribed(command, entry.channel, outcome)
                    entered.append(entry)
                else:
                    self.session.not_subscribed(command, entry.channel, outcome)
            self.flush()
        if self.server.changes != changes:
            # The rows may have changed between being read and being granted.
            self.server.look_again(self.user_id)
        await self.entered(entered)

    async def entered(self, entries: Sequence[Entry]) -> None:
        """Be there: in the channels' presence, and told of others. The client knows by
        now that it is subscribed."""
        for entry in entries:
            self.expire(entry.channel, entry.expires_at)
        await self.server.presence.enter(self, entries)

    def _unsubscribe(self, command: Command, channel: str) -> None:
        wrong = self.session.check_channel(channel)
        if wrong is not None:
            self.session.fail(command, wrong)
            return
        self.session.channels.pop(channel, None)
        self._leave(channel)
        self.session.answer(command, Empty())

    def _leave(self, channel: str) -> None:
        self.server.engine.hub.leave(channel, self.listener)
        self.server.presence.exit(self, channel)
        self.expire(channel, 0)

    # -- what the server does by itself --------------------------------------------------

    def flush(self) -> None:
        """Send what there is to say, and the end if there is one."""
        data = self.session.take()
        if data:
            self.line.outlet.write(data)
        if self.session.ending is not None:
            self._close(self.session.ending)

    def end(self, code: Code) -> None:
        """End the connection; the client is told why."""
        self.session.end(code)
        self.flush()

    def unsubscribe(self, channel: str, code: Code = Unsubscribes.SERVER) -> bool:
        """End one subscription; whether there was one."""
        heard = self.session.drop(channel, code)
        if heard is None:
            return False
        self._leave(channel)
        self.flush()
        return True

    def position_lost(self, channel: str) -> None:
        """Messages were missed: the client comes back to the channel from where it was."""
        heard = self.session.channels.get(channel)
        if heard is None or not heard.is_positioned:
            return
        self.server.engine.metrics.count("insufficient_states")
        if heard.is_server_side:
            self.end(Disconnects.INSUFFICIENT_STATE)
            return
        # First it is no longer fed, so that nothing overtakes what it has to read; told it
        # is a little later, so that not everybody comes back at once.
        self.server.engine.hub.leave(channel, self.listener)
        delay_s = random.uniform(0, self.server.spread_s)
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, self._tell_lost, channel, heard)

    def come_back(self, channel: str) -> None:
        """Let the client subscribe anew: something of its subscription did not work."""
        self.unsubscribe(channel, Unsubscribes.INSUFFICIENT_STATE)

    def _tell_lost(self, channel: str, heard: object) -> None:
        if self.session.channels.get(channel) is heard:
            self.come_back(channel)

    def connected(self) -> None:
        """The client has connected: it is known by its user, and pinged."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self.session.ending is None:
            self._seat = self.server.wheel.add(self)
            self.server.identified(self)

    def ping(self) -> None:
        self.session.awaits_pong = True
        self.line.outlet.write(self.line.form.ping)

    def check_pong(self) -> None:
        if self.session.awaits_pong:
            self.server.engine.metrics.count("pongs_missed")
            self.end(Disconnects.NO_PONG)

    def too_slow(self) -> None:
        """The client does not take what it is sent: it comes back, and recovers."""
        self.server.engine.metrics.count("slow_disconnects")
        self.session.end(Disconnects.SLOW)
        self._close(Disconnects.SLOW)

    # -- who it is -----------------------------------------------------------------------

    @property
    def joins(self) -> Feedline:
        """What the hub feeds who comes and goes."""
        if self._joins is None:
            self._joins = Feedline(self, self.line.form.presence)
        return self._joins

    @property
    def user_id(self) -> str:
        """Primary key as text; ``""`` for nobody."""
        return "" if self.user is None else str(self.user.pk)

    def owns(self, claims: Claims) -> bool:
        """Whether a token speaks of this connection's user."""
        return claims.sub == self.user_id

    def info(self, chan_info: Raw = NO_DATA) -> ClientInfo:
        """Who it is, as others are told."""
        return ClientInfo(self.user_id, self.id, self.conn_info, chan_info)

    def info_fields(self) -> dict[str, Any]:
        """`info`, for the header of a message."""
        fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.info()))
        return fields

    # -- the ends of things --------------------------------------------------------------

    def expire(self, channel: str, at: float) -> None:
        """Let a permission end at a Unix time (and a grace later); 0 takes that back.

        Args:
            channel: Which; ``""`` for the connection's own.
        """
        timer = self._timers.pop(channel, None) if self._timers else None
        if timer is not None:
            timer.cancel()
        if at:
            if self._timers is None:
                self._timers = {}
            delay_s = max(0, at - time.time()) + self.server.limits.live_expiry_grace_s
            loop = asyncio.get_running_loop()
            self._timers[channel] = loop.call_later(delay_s, self._expired, channel)

    def _expired(self, channel: str) -> None:
        heard = self.session.channels.get(channel)
        if not channel:
            self.end(Disconnects.EXPIRED)
        elif heard is not None and heard.is_server_side:
            self.end(Disconnects.SUBSCRIPTION_EXPIRED)
        else:
            self.unsubscribe(channel, Unsubscribes.EXPIRED)

    def run(self, coroutine: Any) -> bool:
        """Let a call run beside the conversation; ``False`` if too many do."""
        if self._calls is None:
            self._calls = set()
        if len(self._calls) >= self.server.limits.live_calls:
            coroutine.close()
            return False
        task = asyncio.create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._call_done)
        return True

    def _call_done(self, task: asyncio.Task[None]) -> None:
        if self._calls is not None:
            self._calls.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.server.engine.metrics.count("live_errors")
            logger.error(
                "a call of connection %s failed", self.id, exc_info=task.exception()
            )
        self.flush()

    def _close(self, code: Code) -> None:
        self.server.engine.metrics.count("live_disconnects")
        self.line.end(code)
        self._release()

    def left(self) -> None:
        """The client is gone; idempotent."""
        self.session.end(Disconnects.WRITE_ERROR)
        self.line.abort()
        self._release()

    def _release(self) -> None:
        """Nothing of the connection stays; idempotent."""
        if not self.server.remove(self):
            return
        if self._patience is not None:
            self._patience.cancel()
        if self._seat is not None:
            self.server.wheel.discard(self, self._seat)
        for timer in (self._timers or {}).values():
            timer.cancel()
        for task in self._calls or ():
            task.cancel()
        for channel in list(self.session.channels):
            self.server.engine.hub.leave(channel, self.listener)
            self.server.presence.exit(self, channel)
        self.session.channels.clear()

    # -- saying goodbye, see `redis_pubsub.web.connections.Connection` -------------------

    async def go_away(self, code: int, reason: str) -> None:
        self._ended = asyncio.Event()
        self.end(Disconnects.SHUTDOWN)
        await self._ended.wait()

    def hang_up(self, code: int, reason: str) -> None:
        if self.session.ending is None:
            self.end(Disconnects.SHUTDOWN)
        else:
            self.line.abort()

    def closed(self) -> None:
        """The line is closed on both sides."""
        self.left()
        self.server.closed(self)
        if self._ended is not None:
            self._ended.set()


def _leading_subscribes(commands: list[Command]) -> list[Command]:
    count = next(
        (i for i, command in enumerate(commands) if command.subscribe is None),
        len(commands),
    )
    return commands[:count]
