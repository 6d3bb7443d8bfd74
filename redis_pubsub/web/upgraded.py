"""A connection after its WebSocket handshake, without aiohttp: bytes in, messages out.

aiohttp keeps for each socket what read its HTTP, two tasks and their frames, a parser, a
writer and a queue: seven kilobytes and three hundred microseconds. Here it is this object,
and nothing runs while the client says nothing.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..frames import cut_reason, frame
from .farewell import CLOSE as CLOSE_FRAME
from .farewell import Farewell, TooMuch
from .incoming import BINARY, CLOSE, PING, PONG, TEXT, Broken, Flooded, Incoming
from .outlet import Outlet

if TYPE_CHECKING:
    from .pace import Pace

_READ_AHEAD_BYTES = 65_536
"""What is read of a client while something that it has said is carried out."""
_CLOSE_DEADLINE_S = 10.0
_PONG_FRAME = 0x8A


class UpgradedSocket(asyncio.Protocol, ABC):
    """One open WebSocket; to be subclassed.

    Args:
        transport: Of the connection; `begin` makes this its protocol.
        pace: How fast the client may send.
        limit_bytes: The largest message taken, not included.
        send_buffer_bytes: See `Outlet`.

    Attributes:
        outlet: Where frames leave; the hub's path.
    """

    __slots__ = ("_farewell", "_incoming", "_is_paused", "_transport", "is_busy", "outlet")

    def __init__(
        self,
        transport: asyncio.Transport,
        pace: Pace,
        limit_bytes: int,
        send_buffer_bytes: int,
    ) -> None:
        self._transport = transport
        self._incoming = Incoming(pace, limit_bytes)
        # Of a client that was told to go.
        self._farewell: Farewell | None = None
        self._is_paused = False
        self.is_busy = False
        self.outlet = Outlet(transport, send_buffer_bytes, self.too_slow)

    # -- for subclasses --------------------------------------------------------------------

    @abstractmethod
    def heard(self, opcode: int, data: bytes) -> None:
        """The client has said something: `TEXT`, which is UTF-8, or `BINARY`. Whoever sets
        `is_busy` hears no more until `go_on`."""

    @abstractmethod
    def broke_protocol(self, error: Broken) -> None:
        """The client breaks the protocol: close with the error's code."""

    @abstractmethod
    def flooded(self) -> None:
        """The client sends more than it may: close."""

    @abstractmethod
    def too_slow(self) -> None:
        """The client does not take what it is sent."""

    @abstractmethod
    def left(self) -> None:
        """The connection is closed; nothing comes any more."""

    # -- what they do ----------------------------------------------------------------------

    def begin(self, early: bytes) -> None:
        """Take over the connection; ``early`` has come behind the handshake."""
        self._transport.set_protocol(self)
        if early:
            self.data_received(early)

    def go_on(self) -> None:
        """What was said is carried out: hear what has come meanwhile."""
        self.is_busy = False
        self._take()
        if self._is_paused and not self.is_busy:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def goodbye(self, code: int, reason: str) -> None:
        """Close: a close frame, once. What the client answers is still read, so that it
        sees the code and not a reset."""
        transport = self.outlet.shut()
        if transport is None:
            return
        transport.write(frame(code.to_bytes(2, "big") + cut_reason(reason), CLOSE_FRAME))
        asyncio.get_running_loop().call_later(_CLOSE_DEADLINE_S, transport.abort)
        self._farewell = Farewell()
        if self._is_paused:
            self._is_paused = False
            transport.resume_reading()
        self._see_off(self._incoming.rest())

    def close_writing(self) -> None:
        """After `goodbye`: let the client see the end, whatever it says."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection, and what is unsent."""
        self.outlet.shut()
        self._transport.abort()

    # -- asyncio ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._farewell is not None:
            self._see_off(data)
            return
        self._incoming.feed(data)
        if not self.is_busy:
            self._take()
        elif not self._is_paused and len(self._incoming) > _READ_AHEAD_BYTES:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`: the transport closes."""
        self._wait_for_unsent()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.outlet.shut()
        self.left()

    # -- reading ---------------------------------------------------------------------------

    def _take(self) -> None:
        incoming = self._incoming
        try:
            while not self.is_busy and self._farewell is None:
                found = incoming.next()
                if found is None:
                    return
                opcode, data = found
                if opcode in (TEXT, BINARY):
                    self.heard(opcode, data)
                elif opcode == PING:
                    self.outlet.write(frame(data, _PONG_FRAME))
                elif opcode == CLOSE:
                    self._answer(data)
                    return
                else:
                    assert opcode == PONG, "there are no other kinds"
        except Broken as error:
            self.broke_protocol(error)
        except Flooded:
            self.flooded()

    def _answer(self, data: bytes) -> None:
        """The client closes: say the same, and that was it."""
        transport = self.outlet.shut()
        if transport is not None:
            transport.write(frame(data[:2], CLOSE_FRAME))
            self._wait_for_unsent()
            transport.close()

    def _wait_for_unsent(self) -> None:
        """A transport closes when the client has taken all that is unsent; who leaves
        without reading would have it, and a place, for ever."""
        if self._transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            loop.call_later(_CLOSE_DEADLINE_S, self._transport.abort)

    def _see_off(self, data: bytes) -> None:
        assert self._farewell is not None, "it was told to go"
        try:
            if self._farewell.close_in(data):
                self._transport.close()
        except TooMuch:
            self._transport.abort()
