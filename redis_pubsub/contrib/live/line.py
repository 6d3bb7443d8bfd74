"""What a conversation travels over: a WebSocket, or a stream with posts beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...codes import Code
from ...web.outlet import Outlet
from .protocol.forms import Form


class Line(Protocol):
    """One open way to a client.

    Attributes:
        form: How replies travel on it.
        outlet: Where they leave; the hub's path.
        session: What a stream's posts are known by; ``""`` for a socket.
        on_slow: Called when the client does not take what it is sent.
    """

    form: Form
    outlet: Outlet
    session: str
    on_slow: Callable[[], None]

    def end(self, code: Code) -> None:
        """Tell the client why, after what was written, and close. Never waits."""

    def abort(self) -> None:
        """Drop the connection and what is unsent."""
