"""Functions that clients call: ``@rpc("name")``, and ``@on_message`` for what wants no
answer. They live in an app's ``websockets`` module and are found there."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.exceptions import PermissionDenied, ValidationError
from msgspec import Raw

from ... import codec
from ...codes import Code, Errors
from ...db import Orm
from ...exceptions import HandlerConfigError, InvalidPayload, PubSubError

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.live")

MESSAGE = ""
"""The name under which the `on_message` function is kept."""


class RPCError(PubSubError):
    """What a procedure raises to answer with a code of its own.

    Args:
        code: 400 to 1999.
        message: What the client's developer reads.
        temporary: Whether the same call may succeed later.
    """

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        if not 400 <= code <= 1999:
            raise ValueError(f"an application's error codes are 400 to 1999, not {code}")
        super().__init__(message)
        self.code = Code(code, message or "error", temporary)


class BadData(InvalidPayload):
    """What a client sent along is no JSON, or not what the function wants."""


class Procedure:
    """A function with the name clients call it by.

    Args:
        name: What clients call it.
        function: ``(user, data)`` to something JSON-able; a coroutine function runs on
            the event loop, a plain one in a database thread.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        self.function = function
        self.path = f"{function.__module__}.{function.__qualname__}"
        self._is_async = inspect.iscoroutinefunction(function)
        self._kind: Any = None

    def __call__(self, user: AbstractBaseUser | None, data: Any) -> Any:
        """The function itself, for tests and other functions."""
        return self.function(user, data)

    async def answer(self, orm: Orm, user: AbstractBaseUser | None, data: Raw) -> bytes:
        """Call the function with a client's data.

        Args:
            orm: Runs plain functions.
            user: Who calls; ``None`` for nobody.
            data: JSON, or nothing.

        Returns:
            The result as JSON.

        Raises:
            RPCError: The function's own.
            BadData: The data is no JSON, or not what the function wants.
            PermissionDenied: The function's own.
        """
        value = self._decoded(bytes(data) or b"null")
        if self._is_async:
            result = await self.function(user, value)
        else:
            result = await orm.run(self.function, user, value)
        return codec.encode(result)

    def _decoded(self, raw: bytes) -> Any:
        """The data as the function's second parameter is annotated."""
        if self._kind is None:
            self._kind = _data_type(self.function)
        try:
            codec.check(codec.one_line(raw))
            return msgspec.json.decode(raw, type=self._kind)
        except (msgspec.ValidationError, InvalidPayload) as error:
            raise BadData(str(error)) from None


Decorator = Callable[[Callable[..., Any]], Procedure]


def rpc(name: str | None = None) -> Decorator:
    """Let clients call a function: ``live.rpc("name", data)``.

    It is called with ``(user, data)``; what it returns is the answer. If ``data`` is
    annotated with a dataclass or a ``msgspec.Struct``, the client's data is checked and
    converted. Raise `RPCError` for an answer with a code; Django's ``PermissionDenied``
    is error 103 and ``ValidationError`` is error 107.

    Args:
        name: What clients call it; by default the function's name.
    """

    def decorate(function: Callable[..., Any]) -> Procedure:
        return Procedure(name or function.__name__, function)

    return decorate


def on_message(function: Callable[..., Any]) -> Procedure:
    """Let a function take what clients ``send``: called with ``(user, data)``, its result
    is not looked at. A site has one."""
    return Procedure(MESSAGE, function)


def error_of(procedure: Procedure, error: Exception) -> Code:
    """What a client is told of an exception; a traceback goes to the log where it is
    nobody's intention."""
    if isinstance(error, RPCError):
        return error.code
    if isinstance(error, PermissionDenied):
        return Errors.PERMISSION_DENIED
    if isinstance(error, ValidationError):
        return Code(Errors.BAD_REQUEST.code, "; ".join(error.messages))
    if isinstance(error, BadData):
        return Code(Errors.BAD_REQUEST.code, str(error))
    logger.error("%s failed", procedure.path, exc_info=error)
    return Errors.INTERNAL


def by_name(procedures: Iterable[Procedure]) -> dict[str, Procedure]:
    """A table of procedures.

    Raises:
        HandlerConfigError: Two have one name.
    """
    table: dict[str, Procedure] = {}
    for procedure in procedures:
        other = table.setdefault(procedure.name, procedure)
        if other.path != procedure.path:
            what = f"@rpc({procedure.name!r})" if procedure.name else "@on_message"
            raise HandlerConfigError(
                f"{what} is there twice: {other.path} and {procedure.path}"
            )
    return table


def _data_type(function: Callable[..., Any]) -> Any:
    parameters = list(inspect.signature(function).parameters)
    hints = typing.get_type_hints(function)
    return hints.get(parameters[1], Any) if len(parameters) > 1 else Any
