"""Where the bytes of one socket leave the process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

_TCP_INFO = getattr(socket, "TCP_INFO", None)
_ACKED = slice(120, 128)
"""Where ``tcpi_bytes_acked`` is in the kernel's answer; see linux/tcp.h."""


class Outlet:
    """The transport of one socket, as the hub's flush meets it.

    Small, with slots, and apart from the socket: a flush touches one of these for each of
    thousands of connections, and what does not fit into the processor's cache costs more
    than the call (measured in docs/topics/design.rst).

    Args:
        transport: Where to write.
        limit_bytes: What earlier writes may have left unsent.
        on_slow: Called instead of a write when it is more.
    """

    __slots__ = ("_limit_bytes", "_on_slow", "_transport")

    def __init__(
        self, transport: asyncio.Transport, limit_bytes: int, on_slow: Callable[[], None]
    ) -> None:
        self._transport: asyncio.Transport | None = transport
        self._limit_bytes = limit_bytes
        self._on_slow = on_slow

    def write(self, data: bytes) -> None:
        """Write ready-made frames now. Never blocks; after `shut`, does nothing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._limit_bytes:
            self._on_slow()
        else:
            transport.write(data)

    def is_full(self) -> bool:
        """Whether the client is behind: more is unsent than it may leave."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return transport.get_write_buffer_size() > self._limit_bytes

    def has_unsent(self) -> bool:
        """Whether the client has not yet taken everything."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() > 0

    def unsent_bytes(self) -> int:
        """What the client has not yet taken; 0 once nothing more is let through."""
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def taken_bytes(self) -> int:
        """What the client's side has acknowledged so far, where the kernel says it; else
        0. On Linux, of TCP."""
        if self._transport is None or _TCP_INFO is None:
            return 0
        line = self._transport.get_extra_info("socket")
        if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
            return 0
        with contextlib.suppress(OSError):
            info = line.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKED.stop)
            return int.from_bytes(info[_ACKED], sys.byteorder)
        return 0

    def shut(self) -> asyncio.Transport | None:
        """Let nothing more through; gives the transport to who shut it first, if open."""
        transport, self._transport = self._transport, None
        return None if transport is None or transport.is_closing() else transport

    @property
    def is_connected(self) -> bool:
        """Whether it is open, and the client was still there a moment ago."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_open(self) -> bool:
        return self._transport is not None
