"""Where every connection begins: handshakes of sockets are answered on the spot, and all
else is aiohttp's.

For a request aiohttp makes some thirty objects and two tasks, looks a route up and runs
what stands before its handler. In a storm of clients that come back that is most of what
each of them costs (docs/topics/performance.rst). So a connection gets a small `Door` first.
If what it brings is a whole handshake for an address of `SOCKETS`, parsed and looked at as
all others are, it is opened without the rest. Everything else goes to aiohttp as it came.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .keys import ENGINE, SOCKETS
from .newcomers import Newcomers
from .requests import StrictServer, fault_of, is_upgrade
from .upgrade import answer

if TYPE_CHECKING:
    from .upgrade import Opening

_HEAD_END = b"\r\n\r\n"


Way = Callable[[web.BaseRequest], "Opening"]
"""Looks at a handshake, which has no fault as such; raises ``web.HTTPException`` where it
refuses it."""


class Door(asyncio.Protocol):
    """One connection until its first bytes are there.

    Attributes:
        transport: Of the connection; ``None`` once it is lost.
        handler: aiohttp's protocol, if it went there.
    """

    __slots__ = ("_entrance", "_has_entered", "handler", "transport")

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._has_entered = False
        self.transport: asyncio.Transport | None = None
        self.handler: web.RequestHandler | None = None

    # What aiohttp's requests ask of the protocol that they came on.

    @property
    def ssl_context(self) -> Any:
        return self._extra("sslcontext")

    @property
    def peername(self) -> Any:
        return self._extra("peername")

    @property
    def sockname(self) -> Any:
        # Nobody asks for it, and the kernel would be asked.
        return None

    def _extra(self, name: str) -> Any:
        return None if self.transport is None else self.transport.get_extra_info(name)

    # -- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._entrance.arrived(self)

    def data_received(self, data: bytes) -> None:
        self._has_entered = True
        self._entrance.enter(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._entrance.gone(self)

    # -- for those who watch ---------------------------------------------------------------

    @property
    def is_silent(self) -> bool:
        """Whether it is open, and no whole request has come."""
        if self.handler is not None:
            # aiohttp has no public word for "a request has come" (3.14.5).
            return not self.handler._request_count and self.handler.transport is not None
        return not self._has_entered and self.transport is not None

    def close(self) -> None:
        """Send a silent client away."""
        if self.handler is not None:
            self.handler.force_close()
        elif self.transport is not None:
            self.transport.close()


class Entrance:
    """Lets the connections of one server in.

    Args:
        server: Gets what is no handshake for one of its ways.
        newcomers: Watches who says nothing.
    """

    def __init__(self, server: StrictServer, newcomers: Newcomers) -> None:
        self._server = server
        self._newcomers = newcomers
        # Openers, by how a request for them begins.
        self._ways: list[tuple[bytes, Way]] = []
        self._silent: set[Door] = set()

    def __call__(self) -> Door:
        return Door(self)

    async def find_ways(self, app: web.Application) -> None:
        """Take the addresses of an application that have a way of their own, and to which
        its router leads: a handler of the site's may stand before them."""
        for path, sockets in app.get(SOCKETS, {}).items():
            beginning = f"GET {path}".encode()
            head = beginning + b" HTTP/1.1\r\nHost: localhost" + _HEAD_END
            ((message, payload),) = self._server.parser(None).feed_data(head)[0]
            make: Any = self._server.request_factory
            match = await app.router.resolve(make(message, payload, self(), None, None))
            if match.handler is sockets.handler:
                way = functools.partial(sockets.opening_of, app[ENGINE])
                self._ways.append((beginning, way))

    @property
    def has_silent(self) -> bool:
        """Whether a connection has said nothing at all yet."""
        return bool(self._silent)

    def close(self) -> None:
        """Send away who has said nothing."""
        self._newcomers.close()
        for door in list(self._silent):
            door.close()

    # -- what doors say --------------------------------------------------------------------

    def arrived(self, door: Door) -> None:
        self._silent.add(door)
        self._newcomers.add(door)

    def gone(self, door: Door) -> None:
        self._silent.discard(door)

    def enter(self, door: Door, data: bytes) -> None:
        """The first bytes of a connection are there."""
        self._silent.discard(door)
        transport = door.transport
        assert transport is not None, "it brings something"
        way = self._way(data)
        refusal: Exception | None = None
        if way is not None:
            handshake, early = self._handshake(door, data)
            if handshake is not None:
                try:
                    opening = way(handshake)
                except Exception as error:
                    # Answered, and logged if it is a mistake of ours, as all others are.
                    refusal = error
                else:
                    # As aiohttp counts them, for a worker that ends after so many.
                    self._server.requests_count += 1
                    transport.write(answer(handshake, opening.protocol))
                    opening.open(transport).begin(early)
                    return
        door.handler = handler = self._server.handler(refusal)
        handler.connection_made(transport)
        transport.set_protocol(handler)
        handler.data_received(data)

    def _way(self, data: bytes) -> Way | None:
        for beginning, way in self._ways:
            # Behind the path, the query or the version.
            if data.startswith(beginning) and _HEAD_END in data:
                return way if data[len(beginning)] in b" ?" else None
        return None

    def _handshake(self, door: Door, data: bytes) -> tuple[web.BaseRequest | None, bytes]:
        """A handshake with no fault, and what has come behind it."""
        end = data.index(_HEAD_END) + len(_HEAD_END)
        try:
            # Nothing but the head: a body would want what aiohttp's protocols have.
            messages, is_upgraded, rest = self._server.parser(door).feed_data(data[:end])
        except HttpProcessingError:
            return None, b""
        if len(messages) != 1 or not is_upgraded or rest:
            return None, b""
        ((message, payload),) = messages
        make: Callable[..., web.BaseRequest] = self._server.request_factory
        request = make(message, payload, door, None, None)
        if not is_upgrade(request) or fault_of(request) is not None:
            return None, b""
        return request, data[end:]
