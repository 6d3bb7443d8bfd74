"""What a conversation travels over: a WebSocket, or a stream with posts beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...codes import Code
from ...web.outlet import Outlet
from .protocol.forms import Form

if TYPE_CHECKING:
    from .connection import Connection


class Line(Protocol):
    """One open way to a client.

    Attributes:
        form: How replies travel on it.
        outlet: Where they leave; the hub's path.
        session: What a stream's posts are known by; ``""`` for a socket.
        connection: What it is a line of.
    """

    form: Form
    outlet: Outlet
    session: str
    connection: Connection | None

    def end(self, code: Code) -> None:
        """Tell the client why, after what was written, and close. Never waits."""

    def abort(self) -> None:
        """Drop the connection and what is unsent."""
