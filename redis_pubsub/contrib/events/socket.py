"""``EventSocket``: a path, its handlers by event, and ``emit`` to those who are there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import WSMsgType, web
from django.core.exceptions import PermissionDenied
from django.db import DEFAULT_DB_ALIAS

from ...engine import Engine
from ...exceptions import HandlerConfigError
from ...web.keys import ENGINE
from ..websockets.handlers import Route
from .addresses import channel_for, channels_of
from .connection import EventConnection
from .dispatch import Dispatcher
from .emitting import emit
from .lifetime import Lifetime
from .registry import EventHandler, EventModule, call, serving
from .words import Deny, check_event

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ..websockets.socket import HandlerSocket

logger = logging.getLogger("redis_pubsub.events")

F = TypeVar("F", bound=Callable[..., Any])

_CONNECTION = web.RequestKey("redis_pubsub_event_connection", EventConnection)


class EventSocket(Route):
    """A path on which clients and handlers exchange events. List it in ``handlerconf``.

    Args:
        path: E.g. ``"/room/{name}/"``; prefix and slash as for ``@websocket``.
        authenticate: Let only users in.
        protocols: Subprotocols it speaks; a client gets the first of its own list that is
            among them.
        state: Makes each connection's ``state``, e.g. a dataclass; by default a namespace.
        max_message_bytes: Largest message a client may send; by default
            ``limits["command_bytes"]``.
        handler: The class of the class style, see `EventSocketHandler`.
    """

    def __init__(
        self,
        path: str,
        authenticate: bool = False,
        *,
        protocols: Sequence[str] = (),
        state: Callable[[], Any] | None = None,
        max_message_bytes: int | None = None,
        handler: Callable[[EventConnection], Any] | None = None,
    ) -> None:
        if not isinstance(path, str):
            raise TypeError(f"a path is a str, not {type(path).__name__}")
        super().__init__(
            self._talk,
            path,
            authenticate=authenticate,
            with_manager=False,
            protocols=protocols,
            max_message_bytes=max_message_bytes,
        )
        self.path = "/" + path.strip("/")
        self.name = f"event socket {self.path}"
        self.protocols = tuple(protocols)
        self.state = state
        self.handler = handler
        self._own = EventModule("")
        self.modules: list[EventModule] = [self._own]
        self._binary: EventHandler | None = None
        self._text: EventHandler | None = None

    # -- what it does --------------------------------------------------------------------

    def on(
        self,
        name: str | None = None,
        *,
        permission: str = "",
        requires: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """See `EventModule.on`."""
        if permission and not self._authenticate:
            raise HandlerConfigError(
                f"{self.name} asks nobody who he is, so nobody has {permission!r}: write "
                "EventSocket(…, authenticate=True)"
            )
        return self._own.on(name, permission=permission, requires=requires)

    def on_connect(self, function: F) -> F:
        """See `EventModule.on_connect`."""
        return self._own.on_connect(function)

    def on_open(self, function: F) -> F:
        """See `EventModule.on_open`."""
        return self._own.on_open(function)

    def on_close(self, function: F) -> F:
        """See `EventModule.on_close`."""
        return self._own.on_close(function)

    def on_binary(self, function: F) -> F:
        """Let a function take binary messages: ``(socket, data)``, with ``bytes``."""
        self._binary = self._single(self._binary, "binary", function)
        return function

    def on_text(self, function: F) -> F:
        """Let a function take the text messages that are no events: ``(socket, text)``."""
        self._text = self._single(self._text, "text", function)
        return function

    def _single(self, known: EventHandler | None, kind: str, function: F) -> EventHandler:
        handler = EventHandler(f"({kind})", function)
        if known is not None:
            raise HandlerConfigError(
                f"{self.name} has two handlers of {kind} messages: {known.path} and "
                f"{handler.path}"
            )
        return handler

    def bind(self, module: EventModule) -> None:
        """Have a module's handlers and hooks as well; its hooks run before this socket's.

        Raises:
            HandlerConfigError: A module of that name is bound.
        """
        if any(module.name == bound.name for bound in self.modules):
            raise HandlerConfigError(f"{self.name} has two modules named {module.name!r}")
        self.modules.insert(-1, module)

    @cached_property
    def handlers(self) -> dict[str, tuple[EventModule, EventHandler]]:
        """Handlers by event, as clients spell it, each with its module; complete when the
        application is made.

        Raises:
            HandlerConfigError: An event has two.
        """
        table: dict[str, tuple[EventModule, EventHandler]] = {}
        for module in self.modules:
            for handler in module.handlers.values():
                name = module.full_name(handler.name)
                if name in table:
                    raise HandlerConfigError(
                        f"{self.name}: event {name!r} has two handlers: "
                        f"{table[name][1].path} and {handler.path}"
                    )
                table[name] = module, handler
        return table

    def describe(self) -> str:
        """See `Route`.

        Raises:
            HandlerConfigError: An event has two handlers.
        """
        parts = [f"{name} → {each.path}" for name, (_, each) in self.handlers.items()]
        parts += [
            f"{each.name} → {each.path}" for each in (self._binary, self._text) if each
        ]
        return "events " + (", ".join(parts) or "none")

    # -- emit ----------------------------------------------------------------------------

    def emit(
        self,
        event: str,
        data: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        user: AbstractBaseUser | int | str | None = None,
        client: str = "",
        everywhere: bool = False,
        exclude: str = "",
        using: str = DEFAULT_DB_ALIAS,
        strict: bool = False,
    ) -> Awaitable[None]:
        """Send an event to clients of this path, in every process. In a handler and without
        an addressee: to those whose parameters are this client's, itself included.

        In a coroutine it must be awaited. In a thread (a view, a command, a plain handler)
        it is sent after the commit, and nothing is left to await.

        Args:
            event: Its name.
            data: Anything JSON-able.
            params: Those whose path has these parameters, e.g. ``{"name": "kitchen"}``.
            user: One user's: a row or a primary key.
            client: One connection's, by its ``id``.
            everywhere: All of the path, whatever their parameters.
            exclude: Id of a connection that must not get it.
            using: The database whose transaction is waited for.
            strict: Raise `BrokerUnavailable` if Redis fails and no transaction is open.

        Raises:
            TypeError: Several addressees; none, outside a handler, on a path with
                parameters; data that is not JSON-able.
            PayloadTooLarge: Over ``limits["message_bytes"]``.
        """
        is_named = params is not None or user is not None or client or everywhere
        if not is_named and "{" in self.path:
            params = self._served().params
        channel = channel_for(
            self.path, params=params, user=user, client=client, is_for_all=everywhere
        )
        return emit(
            channel,
            check_event(event),
            data,
            exclude=exclude,
            using=using,
            strict=strict,
        )

    def _served(self) -> EventConnection:
        """The connection whose handler runs."""
        connection = serving.get()
        if connection is None or connection.endpoint is not self:
            raise TypeError(
                f"whom of {self.path} is this for? Outside its handlers name "
                "params={…}, user=, client=, or everywhere=True"
            )
        return connection

    # -- serving one client --------------------------------------------------------------

    async def greet(
        self, request: web.Request, user: AbstractBaseUser | None
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """See `Route`: ask the ``on_connect`` hooks."""
        engine = request.config_dict[ENGINE]
        connection = EventConnection(self, request, user)
        request[_CONNECTION] = connection
        engine.orm.adopt()
        try:
            for module in self.modules:
                for hook in module.connect_hooks:
                    await call(engine.orm, hook, self.subject(module, connection))
        except (Deny, PermissionDenied) as error:
            engine.metrics.count("handshakes_refused")
            raise web.HTTPForbidden(text=str(error) or "permission denied") from None
        return connection.answer

    def arguments(
        self, request: web.Request, user: AbstractBaseUser | None, manager: Any
    ) -> tuple[Any, dict[str, Any]]:
        """See `Route`."""
        return request[_CONNECTION], {"engine": request.config_dict[ENGINE]}

    def subject(self, module: EventModule, connection: EventConnection) -> Any:
        """What a module's functions get first: the connection, or the class's instance."""
        is_own = module is self._own
        return connection.handler if is_own and connection.handler else connection

    async def _talk(
        self, ws: HandlerSocket, connection: EventConnection, engine: Engine
    ) -> None:
        connection.opened(ws)
        serving.set(connection)
        lifetime = Lifetime(self, connection, engine)
        try:
            if await lifetime.begin():
                await self._handle(ws, connection, engine)
        finally:
            # In a task of its own: whatever ends this one, hooks come to their end.
            await asyncio.shield(lifetime.end())

    async def _handle(
        self, ws: HandlerSocket, connection: EventConnection, engine: Engine
    ) -> None:
        dispatcher = Dispatcher(self, connection, engine, self.handlers)
        while not ws.closed_with:
            message = await ws.receive()
            if message.type is WSMsgType.TEXT:
                await dispatcher.text(message.data, self._text)
            elif message.type is WSMsgType.BINARY:
                await dispatcher.binary(message.data, self._binary)
            else:
                break

    def addresses(self, connection: EventConnection) -> list[str]:
        """The channels that speak to one connection."""
        user = connection.user
        return channels_of(
            self.path,
            client=connection.id,
            params=connection.params,
            user_id="" if user is None else str(user.pk),
        )
