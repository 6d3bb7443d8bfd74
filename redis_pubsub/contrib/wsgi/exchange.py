"""One request in its thread: calls the application and passes on what it answers.

Runs outside the event loop. A response that is complete goes back in one piece, which
costs one turn of the loop; any other goes block by block through a `BlockPipe`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import IO, Any

from aiohttp import web

from .files import FileWrapper
from .head import BrokenResponse, Head, HeadChecker
from .pipe import BlockPipe, ReaderLeft

logger = logging.getLogger("redis_pubsub.wsgi")

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Application = Callable[..., Iterable[bytes]]
"""A WSGI application."""


@dataclass(frozen=True, slots=True)
class Complete:
    """A whole response."""

    head: Head
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """The begin of a response, and where the rest comes from."""

    head: Head
    pipe: BlockPipe


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no response; the log says why."""


Answer = Complete | Stream | Failed


class Exchange:
    """What happens in a thread for one request; the `Work` of a `ThreadPool`.

    Args:
        application: The WSGI application.
        environ: Of this request.
        body: Closed when the thread is done, not earlier: the application may read
            it after the client left.
        request: Asked whether its client is still there.
        checker: Checks heads.
        loop: Where blocks are sent from.
    """

    def __init__(
        self,
        application: Application,
        environ: Environ,
        body: IO[bytes],
        *,
        request: web.BaseRequest,
        checker: HeadChecker,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._application = application
        self._environ = environ
        self._body = body
        self._request = request
        self._checker = checker
        self._loop = loop
        self._is_head = request.method == "HEAD"
        self._announce: Callable[[Answer], None] = _nobody_listens
        self._is_abandoned = False
        self._given: tuple[str, list[tuple[str, str]]] | None = None
        self._head: Head | None = None
        self._pipe: BlockPipe | None = None
        self._sent = 0

    # What the pool calls

    def is_wanted(self) -> bool:
        """Whether to start: what may change something is done for absent clients too."""
        if self._request.method not in SAFE_METHODS:
            return True
        return not self._is_abandoned and self._request.transport is not None

    def abandon(self) -> None:
        """Nobody reads the response any more."""
        self._is_abandoned = True
        if self._pipe is not None:
            self._pipe.abandon()

    def discard(self) -> None:
        """The request never gets its thread."""
        self._body.close()

    def run(self, announce: Callable[[Answer], None]) -> Answer:
        """Serve the request. Raises nothing: what goes wrong is logged here."""
        self._announce = announce
        try:
            answer = self._call_application()
        except ReaderLeft:
            answer = Failed()
        except BaseException:
            logger.exception("%s failed", self._name)
            if self._pipe is not None:
                self._pipe.end(is_cut=True)
            answer = Failed()
        finally:
            self._body.close()
            # It leads back here; a circle would wait for the garbage collector.
            self._announce = _nobody_listens
        return answer

    # What the application calls

    def _start_response(
        self,
        status: str,
        headers: Iterable[tuple[str, str]],
        exc_info: ExcInfo | None = None,
    ) -> Callable[[bytes], None]:
        """PEP 3333's ``start_response``.

        Values are checked when they are used, not here: an error raised here would
        keep the application from returning its response, and so us from closing it.
        """
        if exc_info is None:
            if self._given is not None:
                raise BrokenResponse("start_response() was called twice without exc_info")
        else:
            try:
                if self._pipe is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        self._given = status, list(headers)
        self._head = None
        return self._send

    def _send(self, block: bytes) -> None:
        """Send a part of the body, the head before it; PEP 3333's ``write``."""
        if not isinstance(block, bytes):
            raise BrokenResponse(
                f"the body has {type(block).__name__}, only bytes can be sent"
            )
        head = self._checked_head()
        if not block or self._is_head or head.is_bodiless:
            return
        self._sent += len(block)
        if head.length is not None and self._sent > head.length:
            raise BrokenResponse(
                f"Content-Length is {head.length}, but the body is longer; "
                "leave the header out, or count bytes instead of characters"
            )
        if self._pipe is None:
            self._pipe = BlockPipe(self._loop)
            if self._is_abandoned:
                raise ReaderLeft
            self._announce(Stream(head, self._pipe))
        self._pipe.put(block)

    # The response

    def _call_application(self) -> Answer:
        result = self._application(self._environ, self._start_response)
        try:
            if is_complete(result):
                return self._finish(b"".join(result))
            return self._pass_on(result)
        finally:
            self._close(result)

    def _pass_on(self, result: Iterable[bytes]) -> Answer:
        """Send a body whose blocks are yet to be made."""
        if self._given is not None and self._may_skip_body():
            return self._finish(b"")
        blocks = iter(result)
        # Until its first block, an application may still say (or change) its head.
        first = next(filter(None, blocks), b"")
        if not first or self._may_skip_body():
            return self._finish(b"")
        length = self._checked_head().length
        if isinstance(result, FileWrapper) and length is not None:
            # A file may have grown since its size was told.
            first = first[: length - self._sent]
            blocks = clipped(blocks, length - self._sent - len(first))
        for block in chain((first,), blocks):
            if length == self._sent + len(block):
                # Is there more? Asked before the client can take this for the whole.
                # A page that middleware wrapped in a generator ends here, in one turn.
                return self._finish(block + next(filter(None, blocks), b""))
            self._send(block)
        return self._finish(b"")

    def _may_skip_body(self) -> bool:
        return self._is_head or self._checked_head().is_bodiless

    def _finish(self, rest: bytes) -> Answer:
        """The end of a body: nothing comes after ``rest``."""
        head = self._checked_head()
        if self._pipe is not None and rest:
            self._send(rest)
        if self._pipe is None:
            if head.length not in (None, len(rest)) and not self._may_skip_body():
                raise BrokenResponse(
                    f"Content-Length is {head.length}, but the body has {len(rest)} bytes"
                )
            return Complete(head, rest)
        if head.length not in (None, self._sent):
            raise BrokenResponse(
                f"Content-Length is {head.length}, but the body had {self._sent} bytes"
            )
        self._pipe.end()
        return Stream(head, self._pipe)

    def _checked_head(self) -> Head:
        if self._head is None:
            if self._given is None:
                raise BrokenResponse("the application did not call start_response()")
            self._head = self._checker.check(*self._given)
        return self._head

    def _close(self, result: Iterable[bytes]) -> None:
        close = getattr(result, "close", None)
        if close is None:
            return
        try:
            close()
        except Exception:
            # The response is made and stays right; the mistake must still be seen.
            logger.exception("%s failed in close()", self._name)

    @property
    def _name(self) -> str:
        # %-escaped by ascii(), so that a request cannot write lines into the log.
        return f"{self._request.method} {ascii(self._request.raw_path)[:200]}"


def is_complete(result: Iterable[bytes]) -> bool:
    """Whether all blocks are there: a list, or a Django response that does not stream."""
    return isinstance(result, list | tuple) or getattr(result, "streaming", None) is False


def clipped(blocks: Iterator[bytes], length: int) -> Iterator[bytes]:
    """At most so many bytes of some blocks."""
    while length > 0 and (block := next(blocks, b"")):
        yield block[:length]
        length -= len(block)


def _nobody_listens(answer: Answer) -> None:
    """Stands in until a thread says where answers go."""
