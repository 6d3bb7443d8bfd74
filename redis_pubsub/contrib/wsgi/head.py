"""What an application says about its response, checked before a byte leaves.

PEP 3333 leaves the framing of a response to the server. Here a status, a list of
headers and a length become either a `Head` that cannot break the connection, or a
`BrokenResponse`. Knows no thread and no socket.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...exceptions import PubSubError
from ...metrics import Occasionally

logger = logging.getLogger("redis_pubsub.wsgi")

STATUS = re.compile(r"([2-9][0-9]{2})(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
LENGTH = re.compile(r"[0-9]{1,18}")
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "upgrade",
    )
)
BODILESS = frozenset((204, 304))


class BrokenResponse(PubSubError):
    """The application's response cannot be sent as it is."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers that are safe to send.

    Attributes:
        status: 200 to 999.
        reason: May be empty.
        headers: Without ``Content-Length`` and hop-by-hop ones.
        length: What ``Content-Length`` promises; ``None`` where it was not given.
        wants_close: Whether the application asked to close the connection.
        is_latin: Whether the texts stand for latin-1 bytes; else for UTF-8.
    """

    status: int
    reason: str
    headers: list[tuple[str, str]]
    length: int | None
    wants_close: bool
    is_latin: bool

    @property
    def is_bodiless(self) -> bool:
        return self.status in BODILESS


class HeadChecker:
    """Turns what ``start_response`` got into a `Head`; one per handler."""

    def __init__(self) -> None:
        self._may_warn = Occasionally()

    def check(self, status: str, headers: Iterable[tuple[str, str]]) -> Head:
        """Check a status line and headers.

        Raises:
            BrokenResponse: They would break the connection, or the client's reading.
        """
        match = STATUS.fullmatch(status) if isinstance(status, str) else None
        if match is None:
            raise BrokenResponse(f"the status is {status!r}, not like '200 OK'")
        kept: list[tuple[str, str]] = []
        lengths: set[int] = set()
        wants_close = False
        for name, value in headers:
            self._check_header(name, value)
            lower = name.lower()
            if lower == "content-length":
                lengths.add(parse_length(value))
            elif lower in HOP_BY_HOP:
                wants_close |= lower == "connection" and value.strip().lower() == "close"
                self._warn_of(lower)
            else:
                kept.append((name, value.strip(" \t")))
        if len(lengths) > 1:
            raise BrokenResponse(f"Content-Length is {sorted(lengths)}, it must be one")
        reason = match[2] or ""
        texts = as_utf8([reason, *(value for _, value in kept)])
        if texts is not None:
            reason, *values = texts
            kept = [(name, value) for (name, _), value in zip(kept, values, strict=True)]
        return Head(
            status=int(match[1]),
            reason=reason,
            headers=kept,
            length=lengths.pop() if lengths else None,
            wants_close=wants_close,
            is_latin=texts is None,
        )

    def _check_header(self, name: str, value: str) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise BrokenResponse(f"{name!r} is not the name of a header")
        # Values may be secret, so only the name is told.
        if not isinstance(value, str):
            raise BrokenResponse(f"the value of {name} is {type(value).__name__}, not str")
        if CONTROL.search(value):
            raise BrokenResponse(f"the value of {name} has control characters")
        if name.lower() == "transfer-encoding":
            raise BrokenResponse("leave out Transfer-Encoding, the server chooses it")

    def _warn_of(self, name: str) -> None:
        if self._may_warn(name):
            logger.warning(
                "left out the response header %r: it concerns the connection, which is "
                "the server's",
                name,
            )


def parse_length(value: str) -> int:
    """The number in a ``Content-Length``.

    Raises:
        BrokenResponse: It is none.
    """
    digits = value.strip(" \t")
    if not LENGTH.fullmatch(digits):
        raise BrokenResponse(f"Content-Length is {value!r}, not a number")
    return int(digits)


def as_utf8(values: list[str]) -> list[str] | None:
    """WSGI's latin-1 texts as the UTF-8 texts that give the same bytes.

    Returns:
        The texts, or ``None`` where one of them is not UTF-8.

    Raises:
        BrokenResponse: A text stands for no bytes at all.
    """
    if all(value.isascii() for value in values):
        return values
    try:
        raw = [value.encode("latin-1") for value in values]
    except UnicodeEncodeError as error:
        raise BrokenResponse(
            "a status or header has characters above U+00FF; encode it (PEP 3333)"
        ) from error
    try:
        return [data.decode() for data in raw]
    except UnicodeDecodeError:
        return None
