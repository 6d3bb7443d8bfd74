"""Functions that run in the serving processes when a channel gets a message:
``@receiver("news:*")``.

They live in an app's ``consumers`` module. What runs them is ``web.receiving``.
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from .consumers import MODULE
from .deprecated import moved
from .discovery import app_modules
from .exceptions import HandlerConfigError
from .messages import check_channel_name

__getattr__ = moved(
    __name__,
    {"subscribable_changed": "redis_pubsub.publishing.signals:subscribable_changed"},
)

Route = str | re.Pattern[str]
_SIGNS = frozenset("*?[")


class LocalSocket(Protocol):
    """One connection of this process."""

    @property
    def id(self) -> str:
        """What `redis_pubsub.send_to` takes."""

    @property
    def user_id(self) -> str:
        """Its user's primary key as text; ``""`` for nobody."""

    def send(self, payload: Any) -> None:
        """Send a value as JSON, beside all channels."""


class LocalSockets(Protocol):
    """The connections of this process that listen to a message's channel."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[LocalSocket]: ...

    def send(self, payload: Any) -> None:
        """Send a value as JSON to each of them; encoded once."""


class Receiver:
    """A function, and the channels whose messages it gets.

    Args:
        function: ``(message)`` or ``(message, sockets)``; a coroutine function runs on the
            event loop, a plain one in a database thread.
        routes: Names, shell patterns, compiled regular expressions; none is all.
        once: Whether one process of all runs it, instead of each.

    Attributes:
        path: Where the function is; no two receivers share it.
        exact: Names that are heard even if nobody else listens.
    """

    def __init__(
        self, function: Callable[..., Any], routes: Iterable[Route], *, once: bool = False
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.once = once
        self.path = f"{function.__module__}.{function.__qualname__}"
        self.is_async = inspect.iscoroutinefunction(function)
        routes = tuple(routes)
        self.exact = frozenset(
            check_channel_name(route)
            for route in routes
            if isinstance(route, str) and _is_exact(route)
        )
        self._patterns = [_compiled(route) for route in routes if not _is_exact(route)]
        self._takes_all = not routes
        self._takes_sockets = len(inspect.signature(function).parameters) > 1

    def __call__(self, *args: Any) -> Any:
        """The function itself, here and now."""
        return self.function(*args)

    @property
    def queue(self) -> str:
        """Where its messages wait, if it runs once."""
        return f"receiver:{self.path}"

    def matches(self, channel: str) -> bool:
        """Whether it gets a channel's messages."""
        return (
            self._takes_all
            or channel in self.exact
            or any(pattern.fullmatch(channel) for pattern in self._patterns)
        )

    def arguments(self, message: Any, sockets: LocalSockets) -> tuple[Any, ...]:
        """What the function is called with."""
        return (message, sockets) if self._takes_sockets else (message,)


def receiver(
    routes: Route | Iterable[Route] | Callable[..., Any] = (), *, once: bool = False
) -> Any:
    """Run a function in the serving processes when a matching channel gets a message.

    It is called with the message (``channel``, ``payload``, ``event``, ``position`` …), and
    if it takes two arguments, with this process's sockets that listen to the channel.

    Args:
        routes: A channel's name, a shell pattern (``"news:*"``), a compiled regular
            expression that matches a whole name, or a list of them; without any, every
            channel. Names are heard always; of a pattern's channels only those that
            somebody listens to in this process.
        once: Run it in one process of all, as a job: it waits in Redis, is tried again if
            it raises, and taken over if the process dies.
    """
    if callable(routes):
        return Receiver(routes, (), once=once)
    given: Iterable[Route] = (
        (routes,) if isinstance(routes, str | re.Pattern) else tuple(routes)
    )
    return functools.partial(Receiver, routes=given, once=once)


def load_receivers() -> list[Receiver]:
    """The receivers in the ``consumers`` modules of all installed apps.

    Raises:
        HandlerConfigError: A module does not import, or two functions have one path.
    """
    return checked(
        each
        for _, module in app_modules(MODULE)
        for each in vars(module).values()
        if isinstance(each, Receiver)
    )


def checked(receivers: Iterable[Receiver]) -> list[Receiver]:
    """The receivers, each once.

    Raises:
        HandlerConfigError: Two functions have one path; names them.
    """
    found: dict[str, Receiver] = {}
    for each in receivers:
        other = found.setdefault(each.path, each)
        if other is not each:
            lines = [e.function.__code__.co_firstlineno for e in (other, each)]
            raise HandlerConfigError(
                f"two receivers are called {each.path}, in lines {lines[0]} and "
                f"{lines[1]}: rename one"
            )
    return list(found.values())


def _is_exact(route: Route) -> bool:
    return isinstance(route, str) and _SIGNS.isdisjoint(route)


def _compiled(route: Route) -> re.Pattern[str]:
    if isinstance(route, re.Pattern):
        return route
    if isinstance(route, str):
        return re.compile(fnmatch.translate(route))
    raise TypeError(
        f"a route is a name, a pattern or a compiled regular expression, not {route!r}"
    )
