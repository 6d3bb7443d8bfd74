"""Handlers by the names of their events, and the hooks that belong together.

An `EventModule` is such a set with a name of its own; an event socket is made of one
without a name and of those that are bound to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from ...db import Orm
from ...exceptions import HandlerConfigError
from ..live.procedures import Procedure
from .words import check_event

if TYPE_CHECKING:
    from msgspec import Raw

    from .connection import EventConnection

F = TypeVar("F", bound=Callable[..., Any])

serving: ContextVar[EventConnection | None] = ContextVar("redis_pubsub_event", default=None)
"""The connection whose handler or hook runs here."""


class EventHandler(Procedure):
    """A function that takes an event.

    Args:
        name: The event, without a module's name.
        function: ``(socket)`` or ``(socket, data)``; a coroutine function runs on the event
            loop, a plain one in a database thread.
        permission: ``"app_label.codename"`` that the user must have.
        requires: ``(socket, data)`` to whether it may run; as ``function``, of either kind.

    Raises:
        TypeError: The function takes something else.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        permission: str = "",
        requires: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"a handler is a function, not {function!r}")
        super().__init__(name, function)
        self.takes_data = _takes_data(function)
        self.permission = permission
        self.requires = requires

    def value(self, data: Raw) -> Any:
        """A client's data as the function's second parameter is annotated.

        Raises:
            BadData: It is not that.
        """
        return self._decoded(bytes(data) or b"{}")


def _takes_data(function: Callable[..., Any]) -> bool:
    signature = inspect.signature(function)
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count == 2
    raise TypeError(
        f"{function.__qualname__}{signature}: a handler is called with the socket and the "
        "event's data, or with the socket alone"
    )


def _taking(hook: F, *arguments: str) -> F:
    """Return a hook that is called with so many arguments.

    Raises:
        TypeError: It cannot be.
    """
    try:
        inspect.signature(hook).bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{hook.__qualname__}{inspect.signature(hook)}: this hook is called with "
            f"({', '.join(arguments)})"
        ) from None
    return hook


async def call(orm: Orm, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a coroutine function here, a plain one in a database thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await orm.run(function, *arguments)


class EventModule:
    """Handlers and hooks that can be bound to several event sockets.

    Args:
        name: What the names of its events begin with: ``chat`` for ``chat.say``.
    """

    def __init__(self, name: str) -> None:
        if name:
            check_event(name)
        self.name = name
        self.handlers: dict[str, EventHandler] = {}
        self.connect_hooks: list[Callable[..., Any]] = []
        self.open_hooks: list[Callable[..., Any]] = []
        self.close_hooks: list[Callable[..., Any]] = []

    def on(
        self,
        name: str | None = None,
        *,
        permission: str = "",
        requires: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Let a function take an event of clients. It is called with ``(socket, data)``, or
        with the socket alone; data is checked and converted where it is annotated with a
        dataclass or a ``msgspec.Struct``.

        Args:
            name: The event; by default the function's name.
            permission: ``"app_label.codename"``; asked anew for each event.
            requires: ``(socket, data)`` to a ``bool``; plain or ``async``.

        Raises:
            HandlerConfigError: The event has a handler.
        """

        def decorate(function: F) -> F:
            event = check_event(function.__name__ if name is None else name)
            handler = EventHandler(
                event, function, permission=permission, requires=requires
            )
            self.add(handler)
            return function

        return decorate

    def add(self, handler: EventHandler) -> None:
        """Keep a handler under its event's name.

        Raises:
            HandlerConfigError: There is one.
        """
        other = self.handlers.setdefault(handler.name, handler)
        if other is not handler:
            raise HandlerConfigError(
                f"event {self.full_name(handler.name)!r} has two handlers: {other.path} "
                f"and {handler.path}"
            )

    def full_name(self, event: str) -> str:
        """An event as clients spell it."""
        return f"{self.name}.{event}" if self.name else event

    def on_connect(self, function: F) -> F:
        """Call a function with the socket before it is let in. It may look at
        ``socket.request``, ``accept`` with a subprotocol and headers, or raise `Deny`: the
        answer is 403 then."""
        self.connect_hooks.append(_taking(function, "socket"))
        return function

    def on_open(self, function: F) -> F:
        """Call a function with the socket once, when it is open. It may raise `Deny`."""
        self.open_hooks.append(_taking(function, "socket"))
        return function

    def on_close(self, function: F) -> F:
        """Call a function with the socket and the close code once, however it ended, if
        this module's ``on_open`` hooks came to their end."""
        self.close_hooks.append(_taking(function, "socket", "code"))
        return function

    def emit(self, event: str, data: Any = None, **addressee: Any) -> Awaitable[None]:
        """`EventSocket.emit` of the socket whose handler runs, with the module's name.

        Raises:
            RuntimeError: No handler runs here.
        """
        connection = serving.get()
        if connection is None:
            raise RuntimeError(
                "a module emits from its handlers; elsewhere name the socket: "
                f"room.emit({self.full_name(event)!r}, …)"
            )
        return connection.endpoint.emit(self.full_name(event), data, **addressee)
