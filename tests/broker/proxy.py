"""A TCP proxy to Redis that can go bad."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct


class Proxy:
    """Listens on a TCP port and passes on what comes, until it is told otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_passing = asyncio.Event()
        self._is_passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._muted: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang(self) -> None:
        """Pass nothing on, close nothing, accept more."""
        self._is_passing.clear()

    def heal(self) -> None:
        self._is_passing.set()

    def mute_subscribers(self) -> None:
        """Bring nothing more to those who have subscribed by now."""
        self._muted |= self._subscribers

    def leave_behind(self, path: str, *, reset: bool = False) -> None:
        """Whoever has subscribed stays where it is; all others are sent to another Redis.
        With ``reset`` their connections end with an error, as those of a dead host do."""
        self._path = path
        for writer in self._writers - self._subscribers:
            if reset:
                there = writer.get_extra_info("socket")
                there.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        from_redis, to_redis = await asyncio.open_unix_connection(self._path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, to_redis, writer))
                group.create_task(self._pass(from_redis, writer, writer))
        except* (OSError, EOFError):
            pass
        finally:
            for each in (writer, to_redis):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(65_536):
            await self._is_passing.wait()
            if b"SUBSCRIBE" in data:
                self._subscribers.add(client)
            if client in self._muted and writer is client:
                continue
            writer.write(data)
            await writer.drain()
        raise EOFError
