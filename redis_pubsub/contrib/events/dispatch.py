"""A client's messages, one after the other, to the handlers that take them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from msgspec import Raw

from ...codes import Code, EventErrors
from ...engine import Engine
from ...exceptions import BrokerUnavailable, PoolBusy
from ...frames import frame
from ..live.procedures import error_of
from .connection import EventConnection
from .registry import EventHandler, EventModule, call
from .words import Refused, error_payload, parse

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from .socket import EventSocket

logger = logging.getLogger("redis_pubsub.events")

Table = Mapping[str, tuple[EventModule, EventHandler]]


class Dispatcher:
    """Serves one connection; the next message begins when this one's handler has ended.

    Args:
        endpoint: Its socket.
        connection: Whose messages.
        engine: Runs plain functions, counts.
        handlers: By event.
    """

    def __init__(
        self,
        endpoint: EventSocket,
        connection: EventConnection,
        engine: Engine,
        handlers: Table,
    ) -> None:
        self._endpoint = endpoint
        self._connection = connection
        self._engine = engine
        self._handlers = handlers

    async def text(self, text: str, otherwise: EventHandler | None) -> None:
        """An event; what is none goes to a handler of text, if there is one."""
        event = ""
        try:
            event, data = parse(text)
        except Refused as error:
            if otherwise is None:
                self._refuse(error.code, event)
            else:
                await self._run(otherwise, event, self._subject(None), text)
            return
        module, handler = self._handlers.get(event, (None, None))
        if handler is None:
            self._refuse(EventErrors.UNKNOWN_EVENT, event)
        else:
            await self._run(handler, event, self._subject(module), data)

    async def binary(self, data: bytes, handler: EventHandler | None) -> None:
        """A binary message."""
        if handler is None:
            self._refuse(EventErrors.NO_BINARY, "")
        else:
            await self._run(handler, "", self._subject(None), data)

    def _subject(self, module: EventModule | None) -> Any:
        module = module or self._endpoint.modules[-1]
        return self._endpoint.subject(module, self._connection)

    async def _run(
        self, handler: EventHandler, event: str, subject: Any, data: Raw | str | bytes
    ) -> None:
        """Whatever the handler raises, the socket stays open."""
        self._engine.metrics.count("events")
        logger.debug("%s: %r of %s", handler.path, event, self._connection.id)
        try:
            value = handler.value(data) if isinstance(data, Raw) else data
            if not await self._may(handler, subject, value):
                self._refuse(EventErrors.PERMISSION_DENIED, event)
                return
            arguments = (subject, value) if handler.takes_data else (subject,)
            await call(self._engine.orm, handler.function, *arguments)
        except PoolBusy:
            self._refuse(EventErrors.TOO_MANY_REQUESTS, event)
        except BrokerUnavailable as error:
            logger.error("%s: %s", handler.path, error)
            self._refuse(EventErrors.NOT_AVAILABLE, event)
        except ConnectionResetError:
            # The client left while the handler was sending.
            return
        except Exception as error:
            code = error_of(handler, error)
            if code is EventErrors.INTERNAL:
                self._engine.metrics.count("event_errors")
            self._refuse(code, event)

    def _refuse(self, code: Code, event: str) -> None:
        self._engine.metrics.count("events_refused")
        self._connection.ws.write_frames(frame(error_payload(code, event)))

    async def _may(self, handler: EventHandler, subject: Any, value: Any) -> bool:
        orm = self._engine.orm
        if handler.permission:
            user = self._connection.user
            if user is None or not await orm.run(_has_permission, user, handler.permission):
                return False
        if handler.requires is None:
            return True
        return bool(await call(orm, handler.requires, subject, value))


def _has_permission(user: AbstractBaseUser, permission: str) -> bool:
    """Asked anew: the row of the handshake remembers what it was allowed then."""
    fresh: Any = get_user_model()._default_manager.filter(pk=user.pk).first()
    return fresh is not None and fresh.is_active and fresh.has_perm(permission)
