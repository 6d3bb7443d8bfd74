"""A request's body, received whole before the application starts.

Small ones stay in memory, larger ones go to a temporary file that other threads write.
Bounded in bytes, in time, and in how many may be arriving at once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from .options import KIB, WSGIOptions
from .refusals import ClientLeft, bad_request, body_too_large, body_too_slow, busy

FILE_BLOCK_BYTES = 256 * KIB
"""A body on its way to a file is written in pieces of at least this size."""
FILE_THREADS = 2

Body = tuple[IO[bytes], int]
"""A file at its start, and the bytes in it."""


class BodyReceiver:
    """Receives the bodies of one handler's requests."""

    def __init__(self, options: WSGIOptions) -> None:
        self._options = options
        self._receiving = 0
        self._file_threads: ThreadPoolExecutor | None = None

    async def receive(self, request: web.BaseRequest) -> Body:
        """Read a request to its end.

        Returns:
            The body; the caller closes the file.

        Raises:
            Refusal: Too large, too slow, malformed, or too many at once.
            ClientLeft: The client went away first.
        """
        length = request.content_length
        if length is not None and length > self._options.max_body_bytes:
            raise body_too_large()
        if request.content.at_eof():
            return BytesIO(), 0
        if self._receiving >= self._options.max_receiving:
            raise busy(self._options.retry_after_s, must_close=True)
        self._receiving += 1
        try:
            return await self._receive(request)
        finally:
            self._receiving -= 1

    def close(self) -> None:
        """Let the threads that write files end."""
        if self._file_threads is not None:
            self._file_threads.shutdown(wait=False, cancel_futures=True)

    async def _receive(self, request: web.BaseRequest) -> Body:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.body_timeout_s
        total = 0
        pending: list[bytes] = []
        pending_bytes = 0
        file: IO[bytes] | None = None
        is_received = False
        try:
            while block := await self._next_block(request, deadline, total):
                total += len(block)
                if total > self._options.max_body_bytes:
                    raise body_too_large()
                pending.append(block)
                pending_bytes += len(block)
                if file is None and total > self._options.memory_body_bytes:
                    file = TemporaryFile()  # noqa: SIM115 (the application's thread closes it)
                if file is not None and pending_bytes >= FILE_BLOCK_BYTES:
                    await self._write(file, pending)
                    pending, pending_bytes = [], 0
            if file is None:
                is_received = True
                return BytesIO(b"".join(pending)), total
            await self._write(file, pending, is_last=True)
            is_received = True
            return file, total
        finally:
            if file is not None and not is_received:
                file.close()

    async def _next_block(
        self, request: web.BaseRequest, deadline: float, received: int
    ) -> bytes:
        loop = asyncio.get_running_loop()
        earned_s = received / self._options.body_min_bytes_per_s
        until = min(loop.time() + self._options.body_silence_s, deadline + earned_s)
        try:
            async with asyncio.timeout_at(until):
                return await request.content.readany()
        except TimeoutError:
            raise body_too_slow() from None
        except (PayloadEncodingError, web.RequestPayloadError) as error:
            if request.transport is None:
                raise ClientLeft from error
            raise bad_request("malformed request body") from error
        except (ConnectionError, RuntimeError) as error:
            # aiohttp says RuntimeError("Connection closed.") here.
            if request.transport is None or isinstance(error, ConnectionError):
                raise ClientLeft from error
            raise

    async def _write(
        self, file: IO[bytes], blocks: list[bytes], *, is_last: bool = False
    ) -> None:
        if self._file_threads is None:
            # Apart from the application's threads: an upload must not wait for a page.
            self._file_threads = ThreadPoolExecutor(
                FILE_THREADS, thread_name_prefix="redis_pubsub-wsgi-body"
            )
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._file_threads, write_blocks, file, blocks, is_last)


def write_blocks(file: IO[bytes], blocks: list[bytes], is_last: bool) -> None:
    """Add to a file; the last time, go back to its start."""
    file.writelines(blocks)
    if is_last:
        file.seek(0)
