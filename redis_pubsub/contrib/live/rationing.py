"""How many commands a live client may send: refused one by one first, then cut off."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from ...codes import Errors
from .protocol.session import State

if TYPE_CHECKING:
    from .connection import Connection
    from .protocol.commands import Command

REFUSABLE = frozenset(
    ("subscribe", "publish", "presence", "presence_stats", "history", "rpc", "send")
)
"""What a client tries again, or its caller does, when it is told 111. To refuse the others
would make it reconnect, which costs more; they are counted."""


class Rations:
    """What the connections of a process share of it.

    Args:
        per_s: Commands a second.
        burst: Commands at once.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._command_s = 1 / per_s
        self._span_s = burst / per_s

    def charge(
        self, connection: Connection, commands: list[Command]
    ) -> tuple[list[Command], list[Command]]:
        """Charge a connection for a frame.

        Returns:
            The commands that are to be carried out, and those that are not. A client that
            goes on although it was refused as many again as it may send at once is ended
            with 3013.
        """
        now = time.monotonic()
        # A frame that only answers a ping is work as well.
        amount = len(commands) or 1
        begin = max(connection.commands_at, now)
        connection.commands_at = begin + amount * self._command_s
        over_s = connection.commands_at - now - self._span_s
        if over_s <= 0:
            return commands, []
        if over_s > self._span_s:
            connection.flooded()
            return [], []
        allowed = max(0, amount - math.ceil(over_s / self._command_s))
        wanted = commands[:allowed]
        refused: list[Command] = []
        for command in commands[allowed:]:
            (refused if command.kind in REFUSABLE else wanted).append(command)
        return wanted, refused


def refuse(connection: Connection, commands: list[Command]) -> None:
    """Tell a client what was not carried out."""
    session = connection.session
    if session.ending is not None or session.state is not State.CONNECTED:
        return
    connection.server.engine.metrics.count("commands_refused", len(commands))
    for command in commands:
        if command.kind == "send":
            # It has no answer, and must not be lost without one.
            connection.flooded()
            return
        session.fail(command, Errors.TOO_MANY_REQUESTS)
