"""Finding the handlers of every installed app, and saying loudly what is wrong."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

from ...discovery import app_modules
from ...exceptions import HandlerConfigError
from ..live.procedures import Procedure
from .handlers import Route, as_route

logger = logging.getLogger("redis_pubsub.websockets")

MODULE = "websockets"
LISTS = ("handlerconf", "handlersconf")


Served = Route | Procedure | type[Any]
"""A class is one that has an event socket, see `as_route`."""


def load_handlers() -> list[Served]:
    """What the ``websockets`` modules (or packages) of all installed apps serve: the
    handlers they list in ``handlerconf``, and the procedures they define.

    Raises:
        HandlerConfigError: A module does not import, or lists something that is no
            handler; names app, module and name.
    """
    served: list[Served] = []
    for app, module in app_modules(MODULE):
        served += [_handler(app.label, module, name) for name in _names(module)]
        served += [each for each in vars(module).values() if isinstance(each, Procedure)]
    return served


def _names(module: ModuleType) -> list[Any]:
    listed = [
        getattr(module, attribute) for attribute in LISTS if hasattr(module, attribute)
    ]
    if any(isinstance(names, str) for names in listed):
        raise HandlerConfigError(
            f'{module.__name__}: handlerconf is a list of names, like ["{listed[0]}"]'
        )
    if not listed:
        unlisted = [
            name for name, value in vars(module).items() if as_route(value) is not None
        ]
        if unlisted:
            logger.warning(
                "%s has handlers and lists none, so none is served; add handlerconf = %s",
                module.__name__,
                unlisted,
            )
    return [name for names in listed for name in names]


def _handler(app: str, module: ModuleType, name: Any) -> Route:
    handler = getattr(module, name, None) if isinstance(name, str) else name
    route = as_route(handler)
    if route is None:
        raise HandlerConfigError(
            f"app {app!r}: {module.__name__} lists {name!r} in its handlerconf, "
            + (
                "but has nothing of that name"
                if handler is None
                else "which is not decorated with @websocket or @websocket_pubsub, and is "
                "no event socket"
            )
        )
    return route
