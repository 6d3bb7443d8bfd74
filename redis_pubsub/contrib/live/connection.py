"""One live connection: who it is, what it hears, and how it ends.

What its client says is carried out by ``dialogue``; what is said is ``protocol``'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from ...auth.tokens import Claims
from ...codes import Code, Disconnects, Unsubscribes, reconnect_in
from ...hub.viewers import Viewer
from ...web.connections import LIVE
from ...web.handshake import Credentials
from .expiries import CONNECTION, Expiries
from .feeding import Feeding
from .line import Line
from .protocol.commands import NO_DATA
from .protocol.results import ClientInfo, some
from .protocol.session import Heard, Session, State

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ...auth import Standing
    from ...web.admission import Place
    from ...web.outlet import Outlet
    from .entering import Entry
    from .server import LiveServer

logger = logging.getLogger("redis_pubsub.live")


class Connection:
    """One live connection, from its first byte to its last.

    Args:
        server: What it belongs to.
        line: The way to its client.
        credentials: What the handshake brought along.
        place: Its part of what the process can carry; without one nothing is counted.

    Attributes:
        id: Unguessable, unique in the cluster; its client knows it.
        standing: Who it is; ``None`` for nobody, and before it has connected.
        commands_at: When what it has said is paid for; see `rationing.Rations`.
        conn_info: What its token wants others to be told of it.
        session: What was said so far.
        hears_unasked: Whether it hears more than it has asked for: what is for it, and who
            comes and goes.
        feeding: What the hub feeds.
    """

    kind = LIVE
    hears_unasked = True
    __slots__ = (
        "_calls",
        "_ended",
        "_expiries",
        "_is_identified",
        "_is_late",
        "_patience",
        "_place",
        "_seat",
        "_viewer",
        "commands_at",
        "conn_info",
        "credentials",
        "feeding",
        "id",
        "line",
        "server",
        "session",
        "standing",
    )

    def __init__(
        self,
        server: LiveServer,
        line: Line,
        credentials: Credentials,
        place: Place | None = None,
    ) -> None:
        self.server = server
        self._place = place
        self.commands_at = 0.0
        self.line = line
        self.credentials = credentials
        self.id = os.urandom(16).hex()
        self.standing: Standing | None = None
        self.conn_info = NO_DATA
        self.session = Session(line.form, server.limits.live_channels)
        self.feeding = Feeding(self)
        # Made when they are needed: most connections only listen.
        self._calls: set[asyncio.Task[None]] | None = None
        self._expiries: Expiries | None = None
        self._ended: asyncio.Event | None = None
        self._seat: int | None = None
        self._viewer: Viewer | None = None
        self._is_identified = self._is_late = False
        self._patience: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            server.limits.live_connect_s, self.end, Disconnects.STALE
        )
        line.on_slow = self._too_slow
        server.add(self)

    # -- who it is -----------------------------------------------------------------------

    @property
    def user(self) -> AbstractBaseUser | None:
        """``None`` for nobody."""
        return None if self.standing is None else self.standing.user

    @property
    def user_id(self) -> str:
        """Primary key as text; ``""`` for nobody."""
        return "" if self.standing is None else self.standing.user_id

    def identified(self, standing: Standing | None) -> bool:
        """The client has said who it is: from now on it can be ended by its user.

        Returns:
            ``False`` for a client that was not let in before, and is somebody else now.
        """
        before, after = self.user_id, "" if standing is None else standing.user_id
        if self._is_identified and before != after:
            return False
        self._is_identified = True
        self.standing = standing
        self.server.identified(self)
        return True

    def claim_place(self, user_id: str) -> bool:
        """Whether the user may have one more connection."""
        return self._place is None or self._place.claim(user_id)

    @property
    def viewer(self) -> Viewer:
        """Who looks at messages that not everybody sees alike."""
        if self._viewer is None:
            self._viewer = self.server.engine.hub.viewers.add(self.user)
        return self._viewer

    def forget_audiences(self) -> None:
        """What the user may see has perhaps changed: his audiences are asked for anew,
        before he gets anything more that they decide about."""
        if self._viewer is not None:
            self._viewer.forget(self.user)

    def owns(self, claims: Claims) -> bool:
        """Whether a token speaks of this connection's user."""
        return claims.sub == self.user_id

    def info(self, chan_info: Raw = NO_DATA) -> ClientInfo:
        """Who it is, as others are told."""
        return ClientInfo(self.user_id, self.id, some(self.conn_info), some(chan_info))

    def info_fields(self) -> dict[str, Any]:
        """`info`, for the header of a message."""
        fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.info()))
        return fields

    def connected(self) -> None:
        """The client was told that it has connected: from now on it is pinged, and known
        by its user."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self.session.ending is None:
            self._seat = self.server.wheel.add(self)
            self.server.connected(self)

    def expire(self, channel: str, at: float) -> None:
        """Let a permission end; see `Expiries.set`."""
        if not at and (self._expiries is None or channel not in self._expiries):
            return
        if self._expiries is None:
            grace_s = self.server.limits.live_expiry_grace_s
            self._expiries = Expiries(grace_s, self._expired)
        if self.session.ending is None:
            self._expiries.set(channel, at)

    def _expired(self, channel: str) -> None:
        heard = self.session.channels.get(channel)
        if channel == CONNECTION:
            self.end(Disconnects.EXPIRED)
        elif heard is not None and heard.is_server_side:
            self.end(Disconnects.SUBSCRIPTION_EXPIRED)
        else:
            self.unsubscribe(channel, Unsubscribes.EXPIRED)

    # -- what it hears -------------------------------------------------------------------

    def replay(self, entries: Sequence[Entry]) -> None:
        """Send what channels show to whoever is new, behind what the client was told of
        where it begins, and before anything live."""
        for entry in entries:
            for message in entry.replayed:
                if message.header.exclude != self.id:
                    self.line.outlet.write(self.line.form.publication(message))

    async def entered(self, entries: Sequence[Entry]) -> None:
        """Be there: in the channels' presence, and told of others. The client knows by
        now that it is subscribed."""
        for entry in entries:
            self.expire(entry.channel, entry.expires_at)
        await self.server.presence.enter(self, entries)

    def leave(self, channel: str) -> None:
        """Hear a channel no more; unknown ones are fine."""
        self.session.channels.pop(channel, None)
        self.feeding.unfeed(channel)
        self.server.presence.exit(self, channel)
        self.expire(channel, 0)

    def unsubscribe(self, channel: str, code: Code = Unsubscribes.SERVER) -> bool:
        """End one subscription, and tell the client; whether there was one."""
        if self.session.drop(channel, code) is None:
            return False
        self.leave(channel)
        self.flush()
        return True

    def come_back(self, channel: str) -> None:
        """Let the client subscribe anew, from where it was."""
        heard = self.session.channels.get(channel)
        if heard is not None and heard.is_server_side:
            # That is not its to subscribe to.
            self.end(Disconnects.INSUFFICIENT_STATE)
            return
        self.unsubscribe(channel, Unsubscribes.INSUFFICIENT_STATE)

    def position_lost(self, channel: str) -> None:
        """Messages were missed, and the client counts on being told."""
        heard = self.session.channels.get(channel)
        if heard is None or not heard.is_positioned:
            return
        self.server.engine.metrics.count("insufficient_states")
        # No longer fed at once, so that nothing overtakes what it has to read; told a
        # little later, so that not everybody comes back in one moment.
        self.feeding.unfeed(channel)
        self.come_back_within(channel, (0, self.server.spread_s))

    def come_back_within(self, channel: str, seconds: tuple[float, float]) -> None:
        """`come_back` at a random moment between two numbers of seconds from now."""
        heard = self.session.channels.get(channel)
        if heard is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(random.uniform(*seconds), self._tell_lost, channel, heard)

    def _tell_lost(self, channel: str, heard: Heard) -> None:
        # Unless it has left, or subscribed anew, meanwhile.
        if self.session.channels.get(channel) is heard:
            self.come_back(channel)

    # -- what it is sent -----------------------------------------------------------------

    def flush(self) -> None:
        """Send what there is to say, and the end if there is one."""
        data = self.session.take()
        if data:
            self.line.outlet.write(data)
        if self.session.ending is not None:
            self._close(self.session.ending)

    def ping(self) -> None:
        """See `redis_pubsub.contrib.live.wheel.Pinged`."""
        if not self.session.awaits_pong:
            self._is_late = False
        self.session.awaits_pong = True
        self.line.outlet.write(self.line.form.ping)

    def check_pong(self) -> None:
        """See `redis_pubsub.contrib.live.wheel.Pinged`."""
        if not self.session.awaits_pong:
            return
        if self.line.outlet.has_unsent() and not self._is_late:
            # The ping may wait behind what a slow client is still reading: once more.
            self._is_late = True
        else:
            self.server.engine.metrics.count("pongs_missed")
            self.end(Disconnects.NO_PONG)

    def run(self, call: Coroutine[Any, Any, None]) -> bool:
        """Let a call run beside the conversation; ``False`` if too many do."""
        if self._calls is None:
            self._calls = set()
        if len(self._calls) >= self.server.limits.live_calls:
            call.close()
            return False
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._call_done)
        return True

    def _call_done(self, task: asyncio.Task[None]) -> None:
        if self._calls is not None:
            self._calls.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.server.engine.metrics.count("live_errors")
            logger.error("a call of %s failed", self.id, exc_info=task.exception())
        self.flush()

    # -- how it ends ---------------------------------------------------------------------

    def end(self, code: Code) -> None:
        """End the connection; the client is told why."""
        self.session.end(code)
        self.flush()

    def flooded(self) -> None:
        """The client sends more than it may; it comes back, more slowly."""
        if self._place is not None and self.session.ending is None:
            self._place.flooded()
        self.end(Disconnects.TOO_MANY_REQUESTS)

    def send(self, raw: bytes) -> None:
        """See `redis_pubsub.web.connections.Connection`: clients get a ``message``."""
        if self.session.state is State.CONNECTED and self.session.ending is None:
            # Behind what it was told before.
            self.flush()
            form = self.line.form
            self.line.outlet.write(form.wrap(form.codec.message_push(raw)))

    def disconnect(self, code: Code) -> None:
        """See `redis_pubsub.web.connections.Connection`."""
        self.end(code)

    def _too_slow(self) -> None:
        """The client does not take what it is sent: it comes back, and recovers."""
        self.server.engine.metrics.count("slow_disconnects")
        self.session.end(Disconnects.SLOW)
        self._close(Disconnects.SLOW)

    def _close(self, code: Code) -> None:
        if self._release():
            self.server.engine.metrics.count("live_disconnects")
            self.line.end(code)

    def closed(self) -> None:
        """The line is closed on both sides; idempotent."""
        self.session.end(Disconnects.WRITE_ERROR)
        self._release()
        self.line.outlet.shut()
        self.server.closed(self)
        if self._ended is not None:
            self._ended.set()

    def _release(self) -> bool:
        """Nothing of the connection stays in the process; whether anything did."""
        if not self.server.remove(self):
            return False
        if self._patience is not None:
            self._patience.cancel()
        if self._seat is not None:
            self.server.wheel.discard(self, self._seat)
        if self._expiries is not None:
            self._expiries.clear()
        for task in self._calls or ():
            task.cancel()
        for channel in list(self.session.channels):
            self.leave(channel)
        return True

    async def go_away(self, code: int, reason: str, delay_s: float) -> None:
        """See `redis_pubsub.web.connections.Connection`."""
        if not self.server.is_open(self):
            # The client was faster.
            return
        self._ended = asyncio.Event()
        self.end(_shutdown(delay_s))
        await self._ended.wait()

    @property
    def outlet(self) -> Outlet:
        """See `redis_pubsub.web.connections.Connection`."""
        return self.line.outlet

    def hang_up(self, code: int, reason: str, delay_s: float) -> None:
        """See `redis_pubsub.web.connections.Connection`."""
        if self.session.ending is None:
            self.end(_shutdown(delay_s))
        else:
            self.line.abort()


def _shutdown(delay_s: float) -> Code:
    code = Disconnects.SHUTDOWN
    return Code(code.code, reconnect_in(code.reason, delay_s))
