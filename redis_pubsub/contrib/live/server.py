"""The live endpoint of one process: its connections, and what reaches all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ... import __version__
from ...auth import Authorizer, Standing
from ...codes import Code
from ...engine import ControlEvent, Engine
from ...web.by_user import ByUser
from ...web.connections import Connections
from ...web.handshake import Gatekeeper
from ...web.rechecks import Rechecks
from .attendance import Attendance
from .procedures import Procedure
from .rationing import Rations
from .review import Review
from .wheel import Wheel

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("redis_pubsub.live")

_SPREAD_PER_CONNECTION_S = 1 / 2_000
_SPREAD_MOST_S = 2.0


class LiveServer:
    """What the connections of one engine share.

    Attributes:
        procedures: What clients may call, by name.
        version: What clients are told they speak to.
        ping_s: Seconds between pings.
    """

    version = f"django-redis-pubsub {__version__}"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.options = engine.config.live_options
        self.limits = engine.config.limits
        self.gatekeeper: Gatekeeper = engine.part(Gatekeeper)
        self.authorizer = Authorizer(engine.config, engine.orm)
        self.presence = Attendance(engine)
        self.wheel = Wheel(self.limits.heartbeat_s)
        self.rations = Rations(
            self.limits.live_commands_per_s, self.limits.live_commands_burst
        )
        self.procedures: dict[str, Procedure] = {}
        self._open: Connections = engine.part(Connections)
        self._connections: dict[str, Connection] = {}
        self._users: ByUser[Connection] = ByUser()
        self.rechecks: Rechecks = engine.part(Rechecks)
        self._review = Review(self)
        self.rechecks.follow = self._review.regrant
        # Counts what may have changed who may hear what.
        self.changes = 0
        # How many of them were about everything, not only about subscriptions.
        self.refreshes = 0
        engine.control.handlers.append(self._heard)
        engine.rounds.visits.append(self._visit)
        engine.closing.callback(self.wheel.close)

    @property
    def ping_s(self) -> int:
        return max(1, round(self.limits.heartbeat_s))

    @property
    def spread_s(self) -> float:
        """Over how long those who have to come back are spread."""
        return min(_SPREAD_MOST_S, len(self._connections) * _SPREAD_PER_CONNECTION_S)

    # -- connections ---------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        self._connections[connection.id] = connection
        self._open.add(connection)

    def identified(self, connection: Connection) -> None:
        """A connection has said who it is."""
        self._open.identified(connection)

    def connected(self, connection: Connection) -> None:
        """A connection was let in."""
        self._users.add(connection.user_id, connection)

    def remove(self, connection: Connection) -> bool:
        """Forget a connection; whether it was known."""
        if self._connections.pop(connection.id, None) is None:
            return False
        self._users.discard(connection.user_id, connection)
        return True

    def is_open(self, connection: Connection) -> bool:
        """Whether a connection's line is open on either side."""
        return connection in self._open

    def closed(self, connection: Connection) -> None:
        """A connection's line is closed on both sides."""
        self._open.discard(connection)

    def __len__(self) -> int:
        return len(self._connections)

    def of_user(self, user: str) -> list[Connection]:
        """The connections of a user, by primary key as text."""
        return self._users.of(user)

    @property
    def users(self) -> list[str]:
        """Who is connected here, by primary key as text."""
        return [user for user in self._users if user]

    # -- what other processes say --------------------------------------------------------

    def ended_since(self, moment: float, standing: Standing | None) -> Code | None:
        """See `Connections.ended_since`."""
        return self._open.ended_since(moment, standing)

    def look_again(self, user: str, *, entirely: bool = False) -> None:
        """Read a user's subscriptions again soon, or all that there is to know of him;
        nobody (``""``) has none."""
        if user and entirely:
            self.rechecks.look_again([user])
        elif user:
            self._review.look_again([user])

    def _heard(self, event: ControlEvent) -> None:
        self.changes += 1
        if event.kind == "all":
            # Whatever was said meanwhile: a refresh may be among it.
            self.refreshes += 1
        elif event.kind == "subscriptions":
            self._review.look_again(user for user in event.users if user in self._users)
        elif event.kind == "refresh":
            self.refreshes += 1
        elif event.kind == "unsubscribe":
            for connection in self._meant(event):
                connection.unsubscribe(event.channel)

    def _visit(self, is_due: Callable[[str], bool]) -> None:
        self._review.look_again(user for user in self.users if is_due(user))

    def _meant(self, event: ControlEvent) -> Iterable[Connection]:
        connection = self._connections.get(event.client)
        if connection is not None:
            return [connection]
        return [each for user in event.users if user for each in self.of_user(user)]
