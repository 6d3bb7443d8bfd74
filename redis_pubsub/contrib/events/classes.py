"""The class style: a handler object for each client, its methods by event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from ...exceptions import HandlerConfigError
from .registry import EventHandler, EventModule
from .socket import EventSocket
from .words import check_event

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from ..websockets.socket import Closing, Sent
    from .connection import EventConnection

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_redis_pubsub_event"


def event(
    name: str | None = None,
    *,
    permission: str = "",
    requires: Callable[..., Any] | None = None,
) -> Callable[[F], F]:
    """Let a method of an `EventSocketHandler` take an event; as `EventModule.on`, with
    ``self`` in the place of the socket."""

    def decorate(method: F) -> F:
        called = check_event(method.__name__ if name is None else name)
        made = EventHandler(called, method, permission=permission, requires=requires)
        setattr(method, _MARK, made)
        return method

    return decorate


class EventSocketHandler:
    """One object for each client. A subclass with a ``path`` is listed in ``handlerconf``;
    its `EventSocket`, for ``emit``, is ``events``::

        class Room(EventSocketHandler):
            path = "/room/{name}/"
            authenticate = True

            async def on_open(self):
                await self.events.emit("joined", {"name": self.user.username})

            @event()
            async def say(self, data: Said):
                await self.events.emit("said", {"text": data.text})

    ``on_connect(self)``, ``on_open(self)``, ``on_close(self, code)``, ``on_text(self,
    text)`` and ``on_binary(self, data)`` are used where a class has them, plain or async.

    Attributes:
        path, authenticate, protocols, max_message_bytes: See `EventSocket`.
        modules: Bound to the socket.
        events: The class's `EventSocket`.
        socket: The client's `EventConnection`.
    """

    path: ClassVar[str]
    authenticate: ClassVar[bool] = False
    protocols: ClassVar[Sequence[str]] = ()
    max_message_bytes: ClassVar[int | None] = None
    modules: ClassVar[Sequence[EventModule]] = ()
    events: ClassVar[EventSocket]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A subclass without a path of its own is another handler of the same.
        if getattr(cls, "path", None) is not None:
            cls.events = _socket_of(cls)

    def __init__(self, socket: EventConnection) -> None:
        self.socket = socket

    @property
    def user(self) -> Any:
        return self.socket.user

    @property
    def params(self) -> Mapping[str, str]:
        return self.socket.params

    @property
    def session(self) -> SessionBase:
        return self.socket.session

    def accept(
        self, subprotocol: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """See `EventConnection.accept`."""
        self.socket.accept(subprotocol, headers)

    def deny(self, reason: str = "", code: int = 0) -> NoReturn:
        """See `EventConnection.deny`."""
        self.socket.deny(reason, code)

    def emit(self, event: str, data: Any = None) -> Sent:
        """See `EventConnection.emit`: to this client."""
        return self.socket.emit(event, data)

    def close(self, code: int = 1000, reason: str = "") -> Closing:
        """See `EventConnection.close`."""
        return self.socket.close(code, reason)


def _socket_of(cls: type[EventSocketHandler]) -> EventSocket:
    socket = EventSocket(
        cls.path,
        cls.authenticate,
        protocols=cls.protocols,
        max_message_bytes=cls.max_message_bytes,
        handler=cls,
    )
    socket.name = f"{cls.__module__}.{cls.__qualname__}"
    for module in cls.modules:
        socket.bind(module)
    for handler in _handlers(cls):
        if handler.permission and not cls.authenticate:
            raise HandlerConfigError(
                f"{handler.path} asks for {handler.permission!r}, and {socket.name} asks "
                "nobody who he is: set authenticate = True"
            )
        socket.modules[-1].add(handler)
    for hook in ("on_connect", "on_open", "on_close", "on_text", "on_binary"):
        method = getattr(cls, hook, None)
        if method is not None:
            getattr(socket, hook)(method)
    return socket


def _handlers(cls: type[EventSocketHandler]) -> Iterator[EventHandler]:
    """By methods, so that a subclass's takes the place of its parent's."""
    for name in dir(cls):
        method = getattr(cls, name, None)
        handler = getattr(method, _MARK, None)
        if isinstance(handler, EventHandler):
            yield handler
