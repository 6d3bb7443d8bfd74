"""The sockets of this process that hear a channel, as receivers are given them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import codec
from ..engine import Engine
from ..receivers import LocalSocket
from .connections import Connection, Connections


class Sockets:
    """See `redis_pubsub.receivers.LocalSockets`; usable from any thread."""

    def __init__(self, engine: Engine, channel: str) -> None:
        self._engine = engine
        self._channel = channel

    def _found(self) -> list[Connection]:
        connections: Connections = self._engine.part(Connections)
        ids = {each.connection_id for each in self._engine.hub.listeners(self._channel)}
        found = (connections.get(id) for id in ids if id)
        return [each for each in found if each is not None]

    def __len__(self) -> int:
        return len(self._found())

    def __iter__(self) -> Iterator[LocalSocket]:
        return iter([_Socket(self._engine, each) for each in self._found()])

    def send(self, payload: Any) -> None:
        raw = codec.encode(payload)
        self._engine.loop.call_soon_threadsafe(self._send, raw)

    def _send(self, raw: bytes) -> None:
        for each in self._found():
            each.send(raw)


class _Socket:
    """See `redis_pubsub.receivers.LocalSocket`."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine = engine
        self._connection = connection
        self.id = connection.id
        self.user_id = connection.user_id

    def send(self, payload: Any) -> None:
        raw = codec.encode(payload)
        self._engine.loop.call_soon_threadsafe(self._connection.send, raw)
