"""The socket a handler gets: sends at once, always reads, never grows without bound."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Generator, Iterable
from typing import Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from ...codes import Disconnects
from ...frames import BINARY, TEXT, cut_reason, frame
from ...metrics import Metrics
from ...options import Limits
from ...readers.delivery import on_loop
from ...web.guarded import GuardedSocket
from ...web.outlet import Outlet
from ...web.pace import pace_of_handlers
from .inbox import Inbox

logger = logging.getLogger("redis_pubsub.websockets")

_CLOSE_DEADLINE_S = 10.0
_NO_CODE = 1005
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class HandlerSocket(GuardedSocket):
    """aiohttp's socket, with sends that need no ``await`` and a pump that always reads.

    ``send_str``, ``send_bytes`` and ``send_json`` put the frame on the wire at once, also
    from a plain callback in a thread, and return something that may be awaited: it is
    done when the client keeps up. What a client sends waits for ``receive``, bounded.

    Args:
        limits: Bounds and heartbeat.
        metrics: Where losses are counted.
        protocols: Subprotocols offered to the client.
        max_message_bytes: Largest message taken from the client.

    Attributes:
        id: Unguessable, unique in the cluster.
        connection_id: The same; what `redis_pubsub.send_to` and `disconnect` take.
    """

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        protocols: Iterable[str] = (),
        max_message_bytes: int | None = None,
    ) -> None:
        largest = max_message_bytes or limits.command_bytes
        super().__init__(
            pace_of_handlers(limits, largest),
            metrics,
            heartbeat=limits.heartbeat_s,
            compress=False,
            max_msg_size=largest,
            protocols=protocols,
            timeout=_CLOSE_DEADLINE_S,
        )
        self.id = uuid.uuid4().hex
        self._limits = limits
        self._outlet: Outlet | None = None
        self._head: AbstractStreamWriter | None = None
        self._inbox = Inbox(limits)
        # The code of our own close frame, and of the client's (1006: it sent none); 0 as
        # long as there was none.
        self.closed_with = 0
        self.left_with = 0
        self._closing_task: asyncio.Task[bool] | None = None
        self._pump_task: asyncio.Task[Any] | None = None

    @property
    def connection_id(self) -> str:
        """See the class."""
        return self.id

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        writer = await super().prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("Connection lost")
        self._transport = transport
        self._outlet = Outlet(transport, self._limits.send_buffer_bytes, self._too_slow)
        self._head = writer
        self.watch_floods(self._flooding)
        return writer

    # -- sending ---------------------------------------------------------------------

    def send_str(self, data: str, compress: int | None = None) -> Sent:  # type: ignore[override]
        """Send text; the result may be awaited."""
        if not isinstance(data, str):
            raise TypeError(f"send_str() takes a str, not {type(data).__name__}")
        return self._send(frame(data.encode(), TEXT))

    def send_bytes(  # type: ignore[override]
        self, data: bytes | bytearray | memoryview, compress: int | None = None
    ) -> Sent:
        """Send a binary message; the result may be awaited."""
        return self._send(frame(bytes(data), BINARY))

    def send_json(  # type: ignore[override]
        self,
        data: Any,
        compress: int | None = None,
        *,
        dumps: Callable[[Any], str] = json.dumps,
    ) -> Sent:
        """Send a value as JSON; the result may be awaited."""
        return self.send_str(dumps(data))

    def _send(self, data: bytes) -> Sent:
        if self._loop is None:
            raise RuntimeError("Call .prepare() first")
        on_loop(self._loop, self.write_frames, data)
        return Sent(self)

    @property
    def write_frames(self) -> Callable[[bytes], None]:
        """Writes ready-made frames now: the hub's path. See `Outlet.write`.

        A client that has not taken ``send_buffer_bytes`` of earlier writes is closed with
        3008 instead.
        """
        if self._outlet is None:
            raise RuntimeError("Call .prepare() first")
        return self._outlet.write

    @property
    def is_full(self) -> Callable[[], bool]:
        """Whether the client is behind; see `Outlet.is_full`."""
        if self._outlet is None:
            raise RuntimeError("Call .prepare() first")
        return self._outlet.is_full

    def _too_slow(self) -> None:
        self._metrics.count("slow_disconnects")
        self.abandon(Disconnects.SLOW.code, Disconnects.SLOW.reason)

    def _flooding(self) -> None:
        code = Disconnects.TOO_MANY_REQUESTS
        self.abandon(code.code, code.reason)

    @property
    def outlet(self) -> Outlet | None:
        """The way out; ``None`` before it is prepared."""
        return self._outlet

    async def drain(self) -> None:
        """Wait until the client takes what was sent.

        Raises:
            ConnectionResetError: The socket is closed.
        """
        if self._outlet is None or not self._outlet.is_open or self._head is None:
            raise ConnectionResetError("Cannot write to closing transport")
        await self._head.drain()

    def abandon(self, code: int, reason: str) -> None:
        """Close without waiting for anything: a close frame, then the end of it."""
        self.closed_with = self.closed_with or code
        transport = self._outlet.shut() if self._outlet is not None else None
        if transport is not None:
            transport.write(frame(code.to_bytes(2, "big") + cut_reason(reason), 0x88))
            self._writer = _Mute()  # type: ignore[assignment]
            assert self._loop is not None, "set by prepare()"
            self._loop.call_later(_CLOSE_DEADLINE_S, transport.abort)
            # What the client answers is read, so that it sees the code and not a reset.

    # -- closing ---------------------------------------------------------------------

    def close(  # type: ignore[override]
        self,
        *,
        code: int = WSCloseCode.OK,
        message: bytes | str = b"",
        drain: bool = True,
    ) -> Closing:
        """Close; starts at once, and may be awaited until the connection is closed: 10 s
        at most, whatever the client does. The reason is cut to 123 bytes; ``drain`` is
        accepted for aiohttp's sake."""
        text = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
        if self._loop is None:
            raise RuntimeError("Call .prepare() first")
        on_loop(self._loop, self._start_close, code, cut_reason(text))
        return Closing(self)

    def _start_close(self, code: int, reason: bytes) -> None:
        if self._pump_task is not None and asyncio.current_task() is self._pump_task:
            # aiohttp's answer to the client's end.
            self.left_with = self._code_of_client(code)
        else:
            self.closed_with = self.closed_with or code
        # Nothing of ours may follow the close frame.
        if self._outlet is not None:
            self._outlet.shut()
        if self._closing_task is None:
            self._closing_task = asyncio.create_task(self._close(code, reason))

    def _code_of_client(self, answer: int) -> int:
        """With which code a client left, broke the protocol, or was lost."""
        if self._closing:
            return self._close_code or _NO_CODE
        return answer if answer != WSCloseCode.OK else WSCloseCode.ABNORMAL_CLOSURE

    async def _close(self, code: int, reason: bytes) -> bool:
        """aiohttp's close with a bound: a client that does not read keeps nothing."""
        try:
            async with asyncio.timeout(_CLOSE_DEADLINE_S):
                # aiohttp reads the client's answer itself, unless somebody else reads.
                if self._pump_task is not None and not self._pump_task.done():
                    self._pump_task.cancel()
                    await asyncio.wait([self._pump_task])
                return await super().close(code=code, message=reason, drain=False)
        except TimeoutError:
            self.abort()
            return False
        finally:
            transport = self._transport
            if transport is not None and transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(_CLOSE_DEADLINE_S, transport.abort)

    @property
    def is_closing(self) -> bool:
        """Whether a close frame was sent, or the client is gone."""
        return self._outlet is None or not self._outlet.is_open

    # -- receiving -------------------------------------------------------------------

    async def pump(self) -> None:
        """Read until the client is gone; owned by the connection."""
        self._pump_task = asyncio.current_task()
        try:
            while True:
                message = await super().receive()
                if message.type in _ENDS:
                    break
                if self.is_closing:
                    # It was told to go, and only its answer is waited for: its rights have
                    # ended.
                    continue
                if not self._inbox.put(message):
                    self._metrics.count("unread_disconnects")
                    self.abandon(WSCloseCode.POLICY_VIOLATION, "the server does not read")
        finally:
            if self._outlet is not None:
                self._outlet.shut()
            self._inbox.end()

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """The next message; ``CLOSED`` once the client is gone.

        Raises:
            RuntimeError: Somebody receives already: a callback must not.
            TimeoutError: Nothing came in time.
        """
        assert self._loop is not None, "set by prepare()"
        return await self._inbox.take(timeout)


class _Mute:
    """In the place of aiohttp's writer once our close frame is sent: it would answer pings,
    and the client's answer with a close frame of its own. A browser takes whatever follows
    the first for a broken connection, and tells its page 1006 instead of our code."""

    async def send_frame(self, *frame: Any, **options: Any) -> None:
        """Written to nobody."""

    async def close(self, *code: Any, **options: Any) -> None:
        """It was said."""


class Sent:
    """A frame on its way; awaiting it waits until the client keeps up."""

    __slots__ = ("_socket",)

    def __init__(self, socket: HandlerSocket) -> None:
        self._socket = socket

    def __await__(self) -> Generator[Any, None, None]:
        return self._socket.drain().__await__()

    __iter__ = __await__


class Closing:
    """A close on its way; awaiting it waits until the connection is closed."""

    __slots__ = ("_socket",)

    def __init__(self, socket: HandlerSocket) -> None:
        self._socket = socket

    def __await__(self) -> Generator[Any, None, bool]:
        return self._wait().__await__()

    __iter__ = __await__

    async def _wait(self) -> bool:
        task = self._socket._closing_task
        return await asyncio.shield(task) if task is not None else False
