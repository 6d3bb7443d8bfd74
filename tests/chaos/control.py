"""Telling another process what to do: a line of JSON there, a line of JSON back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

Answer = Callable[..., Awaitable[Any]]


async def serve(path: str, answer: Answer) -> asyncio.Server:
    """Answer at a unix socket."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = json.loads(await reader.readline())
        writer.write(json.dumps(await answer(**command)).encode() + b"\n")
        writer.close()

    return await asyncio.start_unix_server(talk, path)


def tell(path: str, **command: Any) -> Any:
    """Ask, and wait for the answer."""
    with socket.socket(socket.AF_UNIX) as there:
        there.settimeout(30)
        there.connect(path)
        there.sendall(json.dumps(command).encode() + b"\n")
        with there.makefile("rb") as answer:
            return json.loads(answer.readline())
