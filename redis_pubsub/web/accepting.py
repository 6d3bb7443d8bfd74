"""Accepting connections where files run out, without standing on the event loop."""

from __future__ import annotations

import asyncio
from typing import Any


def accept_one_by_one(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop accept one connection each time it is told that there are some.

    asyncio accepts as many as the backlog is long in one go. When no more files can be
    opened it goes on with that all the same: each of a hundred failures writes a traceback
    and sets a timer, each timer leads to a hundred more, and the process does nothing else
    (CPython 3.11 to 3.13; seen in tests/websockets/test_exhaustion.py). One by one there is
    one failure and one timer, and who is inside is served. An accept is a turn of the
    loop then, which is a fiftieth of what a handshake costs. uvloop is not concerned.
    """
    accept: Any = getattr(loop, "_accept_connection", None)
    if accept is None:
        return

    def accept_one(
        protocol_factory: Any,
        sock: Any,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 1,
        *others: Any,
    ) -> None:
        accept(protocol_factory, sock, sslcontext, server, 1, *others)

    loop._accept_connection = accept_one  # type: ignore[attr-defined]
