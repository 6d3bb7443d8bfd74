"""Which heads may leave, and in which spelling."""

from __future__ import annotations

import logging

import pytest

from redis_pubsub.contrib.wsgi.head import BrokenResponse, HeadChecker

LENGTH = "Content-Length"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("200 OK", (200, "OK")),
        ("200 ", (200, "")),
        ("200", (200, "")),
        ("299 Two  Spaces", (299, "Two  Spaces")),
        ("200 Caf\xc3\xa9", (200, "Café")),
    ],
)
def test_a_status_may_have_any_reason_or_none(status, expected):
    """Django sends ``"200 "`` for ``reason=""``."""
    head = HeadChecker().check(status, [])

    assert (head.status, head.reason) == expected


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("OK", []),
        ("2000 OK", []),
        ("100 Continue", []),
        (" 200 OK", []),
        ("200 OK\r\nX: y", []),
        (200, []),
        ("200 OK", [("X Y", "a")]),
        ("200 OK", [("", "a")]),
        ("200 OK", [("X:", "a")]),
        ("200 OK", [("Xé", "a")]),
        ("200 OK", [(b"X", "a")]),
        ("200 OK", [("X", b"a")]),
        ("200 OK", [("X", "a\r\nY: b")]),
        ("200 OK", [("X", "a\x00")]),
        ("200 OK", [("X", "a\x7f")]),
        ("200 OK", [("X", "日")]),
        ("200 OK", [(LENGTH, "abc")]),
        ("200 OK", [(LENGTH, "-1")]),
        ("200 OK", [(LENGTH, "+1")]),
        ("200 OK", [(LENGTH, "1_0")]),
        ("200 OK", [(LENGTH, "٣")]),
        ("200 OK", [(LENGTH, "")]),
        ("200 OK", [(LENGTH, "1"), (LENGTH, "2")]),
        ("200 OK", [("transfer-encoding", "chunked")]),
    ],
)
def test_a_head_that_could_break_the_connection_is_refused(status, headers):
    """Nothing is repaired by guessing."""
    checker = HeadChecker()

    with pytest.raises(BrokenResponse):
        checker.check(status, headers)


def test_the_same_length_twice_is_one_length():
    """A proxy in front merges them, and so do we."""
    head = HeadChecker().check("200 OK", [(LENGTH, "5"), ("content-length", " 5 ")])

    assert head.length == 5
    assert head.headers == []


def test_secrets_stay_out_of_the_error():
    """The value of a broken header may be a session key."""
    with pytest.raises(BrokenResponse) as raised:
        HeadChecker().check("200 OK", [("Set-Cookie", "secret\n")])

    assert "secret" not in str(raised.value)


def test_headers_of_the_connection_are_left_out_with_one_warning(caplog):
    """``Connection: close`` is obeyed, the header itself is the server's to write."""
    checker = HeadChecker()
    headers = [("Connection", "close"), ("Keep-Alive", "timeout=5"), ("X", "a")]

    with caplog.at_level(logging.WARNING, "redis_pubsub.wsgi"):
        heads = [checker.check("200 OK", headers) for _ in range(3)]

    assert heads[2].headers == [("X", "a")]
    assert heads[2].wants_close
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("value", "text", "is_latin"),
    [
        ("plain", "plain", False),
        ("caf\xc3\xa9", "café", False),
        ("caf\xe9", "caf\xe9", True),
    ],
)
def test_values_keep_their_bytes(value, text, is_latin):
    """WSGI's latin-1 text is text for aiohttp where it is UTF-8, else it stays."""
    head = HeadChecker().check("200 OK", [("X", value)])

    assert head.headers == [("X", text)]
    assert head.is_latin is is_latin
