"""Log lines that strangers can cause: a few of each kind a minute, the others counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

from aiohttp.http_exceptions import BadHttpMessage

from .redaction import redacted

LOGGERS = ("redis_pubsub.live", "redis_pubsub.websockets", "aiohttp.server", "asyncio")
PER_PERIOD = 20
PERIOD_S = 60.0
MAX_KINDS = 1_000


class FewOfAKind(logging.Filter):
    """Lets so many lines of a kind through in a minute, and says how many it did not.

    A kind is the place in the code that logs, and the place an exception comes from: a
    handler that begins to fail is seen however much another one fails. Of requests that
    are no HTTP the message is logged, not the traceback through the parser.

    Args:
        on_dropped: Called for each line that is not written.
    """

    def __init__(self, on_dropped: Callable[[], None]) -> None:
        super().__init__()
        self._on_dropped = on_dropped
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def install(self) -> None:
        """Filter the loggers that strangers reach."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BadHttpMessage):
            quoted = redacted(error.message)[:100]
            record.msg, record.args = f"{record.getMessage()}: {quoted!r}", ()
            # Somebody before may have written the traceback down already.
            record.exc_info = record.exc_text = None
        kind = (record.pathname, record.lineno, type(error), _origin_of(error))
        now = time.monotonic()
        began, count = self._kinds.get(kind, (now, 0))
        suppressed = 0
        if now - began >= PERIOD_S:
            suppressed, began, count = max(0, count - PER_PERIOD), now, 0
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (began, count + 1)
        if count >= PER_PERIOD:
            self._on_dropped()
            return False
        if suppressed:
            record.msg = f"{record.getMessage()} (and {suppressed} more like it)"
            record.args = ()
        elif count == PER_PERIOD - 1:
            record.msg = f"{record.getMessage()} (more like it are not logged for a while)"
            record.args = ()
        return True


def _origin_of(error: BaseException | None) -> tuple[str, int] | None:
    """Where an exception was raised."""
    trace = None if error is None else error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno
