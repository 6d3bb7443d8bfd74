"""Plain WSGI applications, one per path, that do what real ones do right and wrong."""

from __future__ import annotations

import hashlib
import io
import json
import resource
from collections.abc import Callable, Iterable
from typing import Any

TEXT = [("Content-Type", "text/plain")]
BLOCK = b"x" * 65_536

Application = Callable[..., Iterable[bytes]]


def echo(environ, start_response):
    """The environ as JSON, its odd bytes as latin-1."""
    body = environ["wsgi.input"].read()
    shown: dict[str, Any] = {k: v for k, v in environ.items() if isinstance(v, str | bool)}
    shown["body"] = hashlib.sha256(body).hexdigest() if body else ""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


def answering(status: str, headers: list, body: Any) -> Application:
    """Always the same answer; ``body`` is a function, so that each gets a new one."""

    def application(environ, start_response):
        start_response(status, headers)
        return body()

    return application


def late_start(environ, start_response):
    """Starts its response with the first block."""
    start_response("200 OK", TEXT)
    yield b"late"


def no_start(environ, start_response):
    return [b"never"]


def writes(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written ")
    write(b"and ")
    return [b"returned"]


def replaced(environ, start_response):
    """Says something else after an error, before anything was sent."""
    start_response("200 OK", TEXT)
    try:
        raise ValueError("on purpose")
    except ValueError as error:
        start_response("503 Sorry", TEXT, (type(error), error, error.__traceback__))
    return [b"sorry"]


def started_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("201 Created", TEXT)
    return [b"twice"]


def crashes(environ, start_response):
    raise ValueError("on purpose")


def exits(environ, start_response):
    raise SystemExit(3)


def crashes_midway(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"a part"
    raise ValueError("on purpose")


def file_with(length: str | None) -> Application:
    def application(environ, start_response):
        headers = TEXT if length is None else [*TEXT, ("Content-Length", length)]
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"0123456789"), 4)

    return application


def hundred_megabytes(environ, start_response):
    start_response("200 OK", TEXT)
    return (BLOCK for _ in range(1600))


def peak_kib(environ, start_response):
    """The most memory this process ever had."""
    start_response("200 OK", TEXT)
    return [str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).encode()]


def length(value: str) -> list:
    return [*TEXT, ("Content-Length", value)]


PATHS: dict[str, Application] = {
    "/list": answering("200 OK", TEXT, lambda: [b"hello ", b"world"]),
    "/empty": answering("200 OK", TEXT, list),
    "/generator": answering("200 OK", TEXT, lambda: (b for b in (b"a", b"", b"b"))),
    "/empty-generator": answering("200 OK", TEXT, lambda: (b for b in ())),
    "/late": late_start,
    "/writes": writes,
    "/replaced": replaced,
    "/no-start": no_start,
    "/started-twice": started_twice,
    "/crashes": crashes,
    "/exits": exits,
    "/crashes-midway": crashes_midway,
    "/text": answering("200 OK", TEXT, lambda: ["text"]),
    "/length-right": answering("200 OK", length("5"), lambda: [b"hello"]),
    "/length-right-generator": answering("200 OK", length("5"), lambda: iter([b"hello"])),
    "/length-small": answering("200 OK", length("3"), lambda: [b"hello"]),
    "/length-large": answering("200 OK", length("9"), lambda: [b"hello"]),
    "/length-text": answering("200 OK", length("abc"), lambda: [b"hello"]),
    "/length-signed": answering("200 OK", length("+5"), lambda: [b"hello"]),
    "/length-two": answering("200 OK", [*length("5"), *length("3")], lambda: [b"hello"]),
    "/length-small-generator": answering(
        "200 OK", length("3"), lambda: iter([b"hel", b"lo"])
    ),
    "/length-small-late": answering(
        "200 OK", length("3"), lambda: iter([b"h", b"e", b"l", b"l"])
    ),
    "/length-large-generator": answering(
        "200 OK", length("9"), lambda: iter([b"hel", b"lo"])
    ),
    "/length-none-yielded": answering("200 OK", length("9"), lambda: iter([])),
    "/bad-type-in-generator": answering("200 OK", TEXT, lambda: iter(["text"])),
    "/no-reason": answering("200 ", TEXT, lambda: [b"x"]),
    "/odd-status": answering("299 Quite Fine", TEXT, lambda: [b"x"]),
    "/status-without-space": answering("200", TEXT, lambda: [b"x"]),
    "/status-text": answering("fine", TEXT, lambda: [b"x"]),
    "/status-interim": answering("100 Continue", TEXT, lambda: [b"x"]),
    "/reason-newline": answering("200 OK\r\nX: y", TEXT, lambda: [b"x"]),
    "/value-newline": answering("200 OK", [("X", "a\r\nSet-Cookie: b")], lambda: [b"x"]),
    "/value-nul": answering("200 OK", [("X", "a\0b")], lambda: [b"x"]),
    "/name-colon": answering("200 OK", [("X:", "a")], lambda: [b"x"]),
    "/value-wide": answering("200 OK", [("X", "日")], lambda: [b"x"]),
    "/value-utf8": answering("200 OK", [*TEXT, ("X", "caf\xc3\xa9")], lambda: [b"x"]),
    "/value-latin": answering("200 Caf\xe9", [*TEXT, ("X", "caf\xe9")], lambda: [b"x"]),
    "/value-latin-generator": answering(
        "200 OK", [*TEXT, ("X", "caf\xe9")], lambda: iter([b"x", b"y"])
    ),
    "/connection": answering("200 OK", [*TEXT, ("Connection", "close")], lambda: [b"x"]),
    "/keep-alive": answering(
        "200 OK", [*TEXT, ("Keep-Alive", "timeout=5")], lambda: [b"x"]
    ),
    "/transfer-encoding": answering(
        "200 OK",
        [*TEXT, ("Transfer-Encoding", "chunked")],
        lambda: [b"1\r\nx\r\n0\r\n\r\n"],
    ),
    "/te-and-length": answering(
        "200 OK", [*length("1"), ("Transfer-Encoding", "chunked")], lambda: [b"x"]
    ),
    "/cookies": answering(
        "200 OK", [*TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], lambda: [b"x"]
    ),
    "/no-content": answering("204 No Content", [], lambda: [b""]),
    "/no-content-with-body": answering("204 No Content", [], lambda: [b"x"]),
    "/not-modified": answering("304 Not Modified", [("ETag", '"a"')], list),
    "/large": answering("200 OK", TEXT, lambda: [BLOCK * 10]),
    "/file": file_with("10"),
    "/file-without-length": file_with(None),
    "/file-grew": file_with("7"),
    "/file-shrank": file_with("12"),
    "/hundred-megabytes": hundred_megabytes,
    "/peak": peak_kib,
}


def application(environ, start_response):
    return PATHS.get(environ["PATH_INFO"], echo)(environ, start_response)
