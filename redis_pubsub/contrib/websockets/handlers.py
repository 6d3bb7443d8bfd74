"""``@websocket`` and ``@websocket_pubsub``: a coroutine becomes a WebSocket handler."""

from __future__ import annotations

import functools
import inspect
import logging
import time
import types
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web
from multidict import MultiDict

from ...auth.tickets import is_ticket
from ...web.admission import Admission, Place
from ...web.connections import Connections
from ...web.handshake import BEARER, Gatekeeper
from ...web.keys import ENGINE, PAGES
from ...web.rechecks import Rechecks
from .routes import clean_route
from .serving import HandlerConnection
from .socket import HandlerSocket

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ...engine import Engine

logger = logging.getLogger("redis_pubsub.websockets")

Handler = Callable[..., Awaitable[Any]]


class Route:
    """A handler with its place: what the decorators return. Callable by aiohttp.

    Attributes:
        route: ``("GET", path, handler)``, for ``app.router.add_route(*handler.route)``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        path: str | None,
        *,
        authenticate: bool,
        with_manager: bool,
        protocols: Sequence[str],
        max_message_bytes: int | None,
    ) -> None:
        functools.update_wrapper(self, function)
        if inspect.isgeneratorfunction(function):
            function = types.coroutine(function)
        elif not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{function.__qualname__} must be an `async def`: it runs on the event loop"
            )
        self.function: Handler = function
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._path = path if path is not None else function.__name__
        self._authenticate = authenticate
        self._with_manager = with_manager
        self._protocols = tuple(protocols)
        self._max_message_bytes = max_message_bytes

    @property
    def route(
        self,
    ) -> tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        return ("GET", clean_route(self._path), self.__call__)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: a socket, or the page that Django has at this path."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            pages = request.config_dict.get(PAGES)
            if pages is not None and pages.knows(request.path):
                return await pages.handle_request(request)
            return _upgrade_required()
        engine = request.config_dict[ENGINE]
        if engine.part(Connections).is_draining:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"})
        with engine.part(Admission).admit(request) as place:
            return await self._serve(request, engine, place)

    async def _serve(
        self, request: web.Request, engine: Engine, place: Place
    ) -> web.StreamResponse:
        began = time.monotonic()
        rechecks = engine.part(Rechecks)
        heard = rechecks.heard
        standing = await engine.part(Gatekeeper).admit(request, self._authenticate)
        if standing is not None:
            place.claim_or_refuse(standing.user_id)
        user = None if standing is None else standing.user
        protocols, headers = await self.greet(request, user)
        socket = HandlerSocket(
            engine.config.limits,
            engine.metrics,
            (*protocols, BEARER),
            self._max_message_bytes,
        )
        socket.headers.update(headers)
        try:
            await socket.prepare(request)
        except ConnectionResetError:
            # The client left while it was being let in; 499 is for the access log.
            return web.Response(status=499)
        connection = HandlerConnection(engine, self, socket, request, standing)
        ended = engine.part(Connections).ended_since(began, standing)
        if ended is not None:
            connection.disconnect(ended)
        await connection.serve(heard)
        if socket.is_flood:
            place.flooded()
        return socket

    async def greet(
        self, request: web.Request, user: AbstractBaseUser | None
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The subprotocols that are spoken with this client, and headers for it.

        Raises:
            web.HTTPException: It is not let in.
        """
        return self._protocols, {}

    def describe(self) -> str:
        """For the summary in the log: what there is to say besides the name."""
        return ""

    def arguments(
        self, request: web.Request, user: AbstractBaseUser | None, manager: Any
    ) -> tuple[MultiDict[str], dict[str, Any]]:
        """What the function is called with, after the socket."""
        params: MultiDict[str] = MultiDict(request.query)
        params.update(request.match_info)
        if self._authenticate:
            params.pop("token", None)
            if is_ticket(params.get("ticket", "")):
                del params["ticket"]
        keywords: dict[str, Any] = {}
        if self._with_manager:
            keywords["manager"] = manager
        if self._authenticate:
            keywords["user"] = user
        return params, keywords


def as_route(value: Any) -> Route | None:
    """A handler's route: the value itself, or of a class the one made for it."""
    if isinstance(value, type):
        value = getattr(value, "events", None)
    return value if isinstance(value, Route) else None


def _upgrade_required() -> web.Response:
    return web.Response(
        status=426,
        text="This address speaks WebSocket: open it with `new WebSocket(url)`.\n",
        headers={"Upgrade": "websocket", "Connection": "Upgrade"},
    )


Decorator = Callable[[Callable[..., Any]], Route]


def websocket(
    route: str | None = None,
    authenticate: bool = False,
    *,
    protocols: Sequence[str] = (),
    max_message_bytes: int | None = None,
) -> Decorator:
    """Make a coroutine function a WebSocket handler.

    It is called with ``(ws, params, **kwargs)``: the socket, and a ``MultiDict`` of the
    path's parameters and the query. When it returns, the socket is closed.

    Args:
        route: Its path, e.g. ``"/room/{name}/"``; by default the function's name. See
            `clean_route` for prefix and slash.
        authenticate: Let only users in; the handler gets ``user``.
        protocols: Subprotocols the handler speaks.
        max_message_bytes: Largest message a client may send; by default
            ``limits["command_bytes"]``.
    """
    return functools.partial(
        Route,
        path=route,
        with_manager=False,
        authenticate=authenticate,
        protocols=protocols,
        max_message_bytes=max_message_bytes,
    )


def websocket_pubsub(
    route: str | None = None,
    authenticate: bool = False,
    *,
    protocols: Sequence[str] = (),
    max_message_bytes: int | None = None,
) -> Decorator:
    """`websocket`, with a `SubscriptionManager` as ``manager``: readers made with it end
    with the socket."""
    return functools.partial(
        Route,
        path=route,
        with_manager=True,
        authenticate=authenticate,
        protocols=protocols,
        max_message_bytes=max_message_bytes,
    )
