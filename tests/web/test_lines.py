from __future__ import annotations

import logging

from aiohttp.http_exceptions import BadStatusLine

from redis_pubsub.web.lines import PER_PERIOD, FewOfAKind


def logged(filtered, write, times):
    """What a logger with the filter writes."""
    lines = []
    logger = logging.Logger("test")
    logger.addFilter(filtered)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record)
    logger.addHandler(handler)
    for number in range(times):
        write(logger, number)
    return lines


def test_a_flood_of_one_kind_is_a_few_lines():
    """The last of them says so, and the others are counted."""
    dropped = []
    filtered = FewOfAKind(lambda: dropped.append(1))

    lines = logged(filtered, lambda logger, n: logger.warning("refused %d", n), 1_000)

    assert len(lines) == PER_PERIOD
    assert "not logged for a while" in lines[-1].getMessage()
    assert len(dropped) == 1_000 - PER_PERIOD


def test_one_handlers_failures_do_not_hide_anothers():
    """A kind is where the exception comes from."""

    def first():
        raise ValueError

    def second():
        raise ValueError

    def write(logger, number):
        try:
            (first if number < 500 else second)()
        except ValueError:
            logger.exception("failed")

    lines = logged(FewOfAKind(lambda: None), write, 501)

    assert len(lines) == PER_PERIOD + 1


def test_a_request_that_is_no_http_is_one_line_without_a_traceback():
    """What a port scanner sends is not worth forty lines each."""

    def write(logger, number):
        try:
            raise BadStatusLine("\x1b[31mnonsense" + "x" * 10_000)
        except BadStatusLine:
            logger.exception("Error handling request")

    (line,) = logged(FewOfAKind(lambda: None), write, 1)

    assert line.exc_info is None
    assert "\x1b" not in line.getMessage()
    assert len(line.getMessage()) < 400
