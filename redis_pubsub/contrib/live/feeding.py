"""What the hub feeds of a connection: one way in for all its channels, or one for a channel
that needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...frames import Framing
from ...hub.lossy import DROP, LATEST, Tap
from ...hub.viewers import Passed, Viewer
from ...messages import Position

if TYPE_CHECKING:
    from .connection import Connection
    from .gates import Gate


class Feedline:
    """What the hub feeds: of a connection, all channels or one.

    Attributes:
        write: The way out; nothing else of the connection is on the path.
    """

    __slots__ = ("_connection", "connection_id", "framing", "write")

    def __init__(self, connection: Connection, framing: Framing) -> None:
        self._connection = connection
        self.connection_id = connection.id
        self.framing = framing
        self.write: Callable[[bytes], None] = connection.line.outlet.write

    @property
    def viewer(self) -> Viewer:
        return self._connection.viewer

    def position_lost(self, channel: str) -> None:
        self._connection.position_lost(channel)

    def passed_by(self, channel: str, passed: Passed) -> None:
        self._connection.feeding.passed_by(channel, passed)


class Feeding:
    """The ways in of one connection.

    Args:
        connection: Whose.

    Attributes:
        listener: Of all channels that need no way of their own.
        passed: By channel: what was withheld since the client's own position.
    """

    __slots__ = ("_connection", "_joins", "_own", "listener", "passed")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.listener = Feedline(connection, connection.line.form.publication)
        # Made when they are needed: most connections only listen.
        self._joins: Feedline | None = None
        # For channels whose messages a slow client may miss, or that it came back to and
        # sees in part.
        self._own: dict[str, tuple[Feedline, Tap | None]] | None = None
        self.passed: dict[str, Passed] | None = None

    @property
    def joins(self) -> Feedline:
        """What the hub feeds who comes and goes."""
        if self._joins is None:
            self._joins = Feedline(self._connection, self._connection.line.form.presence)
        return self._joins

    def line_for(self, channel: str, policy: str) -> Feedline:
        """What the hub is to feed for a channel; `unfeed` takes it away.

        Args:
            channel: Which.
            policy: Channel option ``slow``.
        """
        if policy not in (LATEST, DROP):
            return self.listener
        line = Feedline(self._connection, self._connection.line.form.publication)
        return self._keep(channel, line, policy)

    def _keep(self, channel: str, line: Feedline, policy: str) -> Feedline:
        """Let a channel have a way of its own."""
        connection = self._connection
        outlet, tap = connection.line.outlet, None
        if policy in (LATEST, DROP):
            tap = connection.server.engine.hub.tap(
                channel,
                policy,
                framing=line.framing,
                write=line.write,
                is_full=outlet.is_full,
                on_gap=functools.partial(connection.come_back, channel),
                connection_id=connection.id,
            )
            line.write = tap.write
        if self._own is None:
            self._own = {}
        self._own[channel] = line, tap
        return line

    def gate_for(self, channel: str, policy: str) -> Gate:
        """`line_for` where what was missed has to be rendered first."""
        from .gates import Gate

        gate = Gate(self._connection, self.line_for(channel, policy))
        if self._own is None:
            self._own = {}
        _, tap = self._own.get(channel, (None, None))
        self._own[channel] = gate, tap
        return gate

    def unfeed(self, channel: str) -> None:
        """Let the hub feed a channel no more."""
        hub = self._connection.server.engine.hub
        line = self.listener
        if self._own is not None and channel in self._own:
            line, tap = self._own.pop(channel)
            if tap is not None:
                hub.taps.forget(tap)
        hub.leave(channel, line)

    # -- what was withheld ---------------------------------------------------------------

    def passed_by(self, channel: str, passed: Passed) -> None:
        """So much was withheld that the client's position will fall out of the history: it
        subscribes again, and is told where the channel stands."""
        connection, server = self._connection, self._connection.server
        heard = connection.session.channels.get(channel)
        if heard is None or not heard.is_positioned or heard.is_server_side:
            return
        if self.passed is None or len(self.passed) > server.limits.live_channels:
            self.passed = {}
        known = self.passed.get(channel)
        if known is not None and known.position.offset >= passed.after:
            # It did not come back yet: all of that was withheld, too.
            passed = Passed(known.after, passed.position)
        self.passed[channel] = passed
        server.engine.metrics.count("audience_moves")
        connection.come_back_within(channel, (0, server.spread_s))

    def moved_on(self, channel: str, since: Position) -> Position:
        """Where a client is that comes back from somewhere: whatever lies between there and
        here may have been withheld."""
        passed = None if self.passed is None else self.passed.pop(channel, None)
        if (
            passed is None
            or since.epoch != passed.position.epoch
            or not passed.after <= since.offset < passed.position.offset
        ):
            return since
        return passed.position
