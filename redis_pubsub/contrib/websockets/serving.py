"""One open socket and the handler that serves it: started, watched, ended."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, web
from django.core.exceptions import SynchronousOnlyOperation

from ...codes import TRY_AGAIN, Code, Disconnects, reconnect_in
from ...engine import Engine
from ...exceptions import BrokerUnavailable, InvalidChannelName, PubSubError
from ...frames import TEXT, frame
from ...readers import SubscriptionManager
from ...web.connections import HANDLER, Connections
from ...web.outlet import Outlet
from ...web.rechecks import Rechecks
from .socket import HandlerSocket

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ...auth import Standing
    from .handlers import Route

logger = logging.getLogger("redis_pubsub.websockets")


class HandlerConnection:
    """One open socket and the handler that serves it."""

    kind = HANDLER

    def __init__(
        self,
        engine: Engine,
        route: Route,
        socket: HandlerSocket,
        request: web.Request,
        standing: Standing | None,
    ) -> None:
        self._engine = engine
        self._route = route
        self._socket = socket
        self._request = request
        self.standing = standing
        self._is_left = False
        self._task: asyncio.Task[Any] | None = None
        self._ended = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._manager = SubscriptionManager(
            engine,
            connection_id=socket.id,
            owner=route.name,
            on_overflow=self._overflowed,
            user=None if standing is None else standing.user,
        )

    async def serve(self, heard: int) -> None:
        """Run the handler; whatever ends it, nothing of the connection stays.

        Args:
            heard: See `Rechecks.watch`.
        """
        task = asyncio.current_task()
        assert task is not None, "aiohttp serves requests in tasks"
        self._task = task
        self._engine.orm.adopt()
        self._engine.part(Connections).add(self)
        self._engine.part(Rechecks).watch(self, heard)
        pump = asyncio.create_task(self._socket.pump(), name=f"pump {self._route.name}")
        pump.add_done_callback(lambda _: self._client_left(task))
        code: int = WSCloseCode.OK
        reason = ""
        try:
            code, reason = await self._run()
        except asyncio.CancelledError:
            # Without a cancel() of this task, it was a listener's future that ended.
            if not self._is_left and task.cancelling():
                code, reason = WSCloseCode.GOING_AWAY, "the server is stopping"
                raise
            if task.cancelling():
                task.uncancel()
        finally:
            self._is_left = True
            await asyncio.shield(self._end(pump, code, reason))

    async def _run(self) -> tuple[int, str]:
        if self._socket.is_closing:
            # Ended while it was let in: no handler begins, the client's answer is awaited.
            await self._socket.receive()
            return WSCloseCode.OK, ""
        params, keywords = self._route.arguments(self._request, self.user, self._manager)
        try:
            await self._route.function(self._socket, params, **keywords)
        except SynchronousOnlyOperation as error:
            logger.error("%s", _name_blocking_call(self._route.name, error), exc_info=error)
        except BrokerUnavailable as error:
            self._engine.metrics.count("handler_unavailable")
            logger.error("%s: %s", self._route.name, error, exc_info=error)
            return TRY_AGAIN, "try again later"
        except InvalidChannelName as error:
            # As a rule the client's own spelling: no traceback for each.
            self._engine.metrics.count("invalid_channel_names")
            logger.warning("%s: %s", self._route.name, error)
            return WSCloseCode.POLICY_VIOLATION, "no such channel"
        except ConnectionResetError:
            # The client left while the handler was sending.
            return WSCloseCode.OK, ""
        except Exception:
            logger.exception("handler %s failed", self._route.name)
        else:
            return WSCloseCode.OK, ""
        self._engine.metrics.count("handler_errors")
        return WSCloseCode.INTERNAL_ERROR, "internal error"

    def _client_left(self, task: asyncio.Task[Any]) -> None:
        """The pump has ended: subscriptions end now, the handler soon."""
        if self._is_left:
            return
        self._is_left = True
        for reader in list(self._manager.readers.values()):
            if reader.future is not None and not reader.future.done():
                reader.future.cancel()
        loop = asyncio.get_running_loop()
        grace_s = self._engine.config.limits.handler_grace_s
        self._patience = loop.call_later(grace_s, self._lost_patience, task)

    def _lost_patience(self, task: asyncio.Task[Any]) -> None:
        if not task.done() and not self._manager.closed:
            self._engine.metrics.count("handlers_cancelled")
            logger.warning(
                "%s still runs although its client left; ended", self._route.name
            )
            task.cancel()

    async def _end(self, pump: asyncio.Task[None], code: int, reason: str) -> None:
        if self._patience is not None:
            self._patience.cancel()
        try:
            await self._manager.stop()
        finally:
            await self._socket.close(code=code, message=reason)
            pump.cancel()
            await asyncio.wait([pump])
            self._engine.part(Connections).discard(self)
            self._ended.set()

    async def go_away(self, code: int, reason: str, delay_s: float) -> None:
        """See `Connection`: the client's answer ends the pump, and that the handler."""
        await self._socket.close(code=code, message=reconnect_in(reason, delay_s))
        if self._task is not None:
            self._task.cancel()
        await self._ended.wait()

    def hang_up(self, code: int, reason: str, delay_s: float) -> None:
        """See `Connection`."""
        if self._socket.is_closing:
            self._socket.abort()
        else:
            self._socket.abandon(code, reconnect_in(reason, delay_s))
        if self._task is not None:
            self._task.cancel()

    @property
    def outlet(self) -> Outlet | None:
        """See `Connection`."""
        return self._socket.outlet

    @property
    def id(self) -> str:
        return self._socket.id

    @property
    def user_id(self) -> str:
        return "" if self.standing is None else self.standing.user_id

    @property
    def user(self) -> AbstractBaseUser | None:
        """Whom the handler is called with; ``None`` for nobody."""
        return None if self.standing is None else self.standing.user

    def send(self, raw: bytes) -> None:
        """See `Connection`: the client gets the JSON as a text message."""
        self._socket.write_frames(frame(raw, TEXT))

    def disconnect(self, code: Code) -> None:
        """See `Connection`: the handler ends as with a client that leaves."""
        self._socket.abandon(code.code, code.reason)

    def _overflowed(self, error: PubSubError) -> None:
        self._engine.metrics.count("slow_disconnects")
        self._socket.abandon(Disconnects.SLOW.code, Disconnects.SLOW.reason)


def _name_blocking_call(handler: str, error: SynchronousOnlyOperation) -> str:
    """Which line of the handler called the ORM, and what to write there instead."""
    frames = traceback.extract_tb(error.__traceback__)
    library = next(
        (
            i
            for i, frame in enumerate(frames)
            if "/django/" in frame.filename.replace("\\", "/")
        ),
        len(frames),
    )
    caller = frames[library - 1] if library else frames[-1]
    names = [frame.name for frame in frames[library:] if frame.name != "manager_method"]
    called = names[0] if names else "?"
    if called.startswith("__"):
        hint = (
            "`async for` for a queryset, `select_related` (or `await sync_to_async(...)`) "
            "for a relation"
        )
    else:
        hint = f"`await ….a{called}(…)`"
    return (
        f"handler {handler} calls the ORM on the event loop at {caller.filename}:"
        f"{caller.lineno} ({caller.line}); use {hint}"
    )
