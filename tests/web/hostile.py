"""Requests that two readers could take for different ones.

Each is sent as it stands, with an ordinary request right behind it on the same connection:
whoever answers that one as well has not seen where the first one ends.
"""

from __future__ import annotations

HOST = b"Host: {host}\r\n"
NEXT = b"GET /behind HTTP/1.1\r\nHost: {host}\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with ``Host`` and some header lines."""
    return b"GET %s %s\r\n%s%s\r\n" % (target, version, HOST, b"".join(lines))


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A POST with ``Host``, some header lines and a body."""
    return b"POST / %s\r\n%s%s\r\n%s" % (version, HOST, b"".join(lines), body)


def chunks(body: bytes) -> bytes:
    """A POST whose body is in chunks."""
    return post(CHUNKED, body=body)


def upgrade(
    *lines: bytes,
    path: bytes = b"/connection/websocket",
    wanted: bytes = b"Connection: Upgrade\r\n",
    key: bytes = KEY,
    version: bytes = VERSION,
    method: bytes = b"GET",
) -> bytes:
    """A WebSocket handshake, whole or not."""
    head = b"Upgrade: websocket\r\n" + wanted + key + version + b"".join(lines)
    return b"%s %s HTTP/1.1\r\n%s%s\r\n" % (method, path, HOST, head)


EMPTY = b"0\r\n\r\n"

LENGTHS = {
    "a length and chunks": post(b"Content-Length: 6\r\n", CHUNKED, body=EMPTY),
    "chunks and a length": post(CHUNKED, b"Content-Length: 6\r\n", body=EMPTY),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: 5\r\n"),
    "one length twice": post(b"Content-Length: 0\r\nContent-Length: 0\r\n"),
    "lengths in a list": post(b"Content-Length: 0, 0\r\n"),
    "a length with a plus": post(b"Content-Length: +5\r\n", body=b"hello"),
    "a length below zero": post(b"Content-Length: -5\r\n", body=b"hello"),
    "a length with an underscore": post(b"Content-Length: 5_0\r\n", body=b"hello" * 10),
    "a length in other digits": post("Content-Length: ٥\r\n".encode(), body=b"hello"),
    "a length in hex": post(b"Content-Length: 0x5\r\n", body=b"hello"),
    "no length in its place": post(b"Content-Length: \r\n"),
    "a length of forty digits": post(b"Content-Length: " + b"9" * 40 + b"\r\n"),
    "an underscore for a length's dash": post(b"Content_Length: 5\r\n"),
    "a length, and one with an underscore": post(
        b"Content-Length: 0\r\nContent_Length: 5\r\n"
    ),
}

CODINGS = {
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", body=EMPTY),
    "chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n", body=EMPTY),
    "identity": post(b"Transfer-Encoding: identity\r\n", body=EMPTY),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", body=EMPTY),
    "two codings in two lines": post(
        b"Transfer-Encoding: identity\r\n", CHUNKED, body=EMPTY
    ),
    "compressed in chunks": post(b"Transfer-Encoding: gzip, chunked\r\n", body=EMPTY),
    "a vertical tab before it": post(b"Transfer-Encoding: \x0bchunked\r\n", body=EMPTY),
    "in quotes": post(b'Transfer-Encoding: "chunked"\r\n', body=EMPTY),
    "an underscore for its dash": post(b"Transfer_Encoding: chunked\r\n"),
    "in HTTP/1.0": post(
        CHUNKED, b"Connection: keep-alive\r\n", body=EMPTY, version=b"HTTP/1.0"
    ),
}

CHUNK_SIZES = {
    "with 0x": chunks(b"0x5\r\nhello\r\n" + EMPTY),
    "with a plus": chunks(b"+5\r\nhello\r\n" + EMPTY),
    "below zero": chunks(b"-5\r\nhello\r\n" + EMPTY),
    "with an underscore": chunks(b"5_0\r\nhello\r\n" + EMPTY),
    "a space before": chunks(b" 5\r\nhello\r\n" + EMPTY),
    "a space behind": chunks(b"5 \r\nhello\r\n" + EMPTY),
    "none": chunks(b"\r\nhello\r\n" + EMPTY),
    "beyond 64 bits": chunks(b"f" * 17 + b"\r\nhello\r\n" + EMPTY),
    "a bare line feed": chunks(b"5\nhello\r\n" + EMPTY),
    "a line feed in an extension": chunks(b"5;a\nb\r\nhello\r\n" + EMPTY),
    "a bare line feed behind the data": chunks(b"5\r\nhello\n" + EMPTY),
    "more data than said": chunks(b"5\r\nhelloXX" + EMPTY),
    "a host in the trailers": chunks(b"0\r\nHost: elsewhere.example\r\n\r\n"),
    "a length in the trailers": chunks(b"0\r\nContent-Length: 5\r\n\r\n"),
}

LINES = {
    "bare line feeds": b"GET / HTTP/1.1\nHost: {host}\n\n",
    "a bare line feed between headers": get(b"A: b\nC: d\r\n"),
    "a bare carriage return in a value": get(b"A: b\rC: d\r\n"),
    "a bare carriage return behind the request line": b"GET / HTTP/1.1\r" + HOST + b"\r\n",
    "a folded line": get(b"A: b\r\n c\r\n"),
    "a folded first line": b"GET / HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n",
    "a space before the colon": get(b"A : b\r\n"),
    "a space before a length's colon": post(b"Content-Length : 5\r\n", body=b"hello"),
    "a tab before a coding's colon": post(b"Transfer-Encoding\t: chunked\r\n", body=EMPTY),
    "NUL in a value": get(b"A: b\0c\r\n"),
    "NUL in a name": get(b"A\0: c\r\n"),
    "NUL in a path": get(target=b"/\0"),
    "an escape character in a value": get(b"A: \x1b[31m\r\n"),
    "no colon": get(b"Transfer-Encoding\r\n"),
    "no name": get(b": x\r\n"),
    "a name that is no ASCII": get(b"A\xe9: x\r\n"),
    "a path that is no ASCII": get(target=b"/\xff"),
    "five hundred headers": get(b"".join(b"A%d: b\r\n" % n for n in range(500))),
    "a header of 70,000 bytes": get(b"A: " + b"x" * 70_000 + b"\r\n"),
}

HOSTS = {
    "two": get(b"Host: elsewhere.example\r\n"),
    "the same twice": get(HOST),
    "none": b"GET / HTTP/1.1\r\n\r\n",
    "with a path": b"GET / HTTP/1.1\r\nHost: {host}/elsewhere\r\n\r\n",
    "with a user": b"GET / HTTP/1.1\r\nHost: elsewhere.example@{host}\r\n\r\n",
    "two in one line": b"GET / HTTP/1.1\r\nHost: {host}, elsewhere.example\r\n\r\n",
    "no ASCII": b"GET / HTTP/1.1\r\nHost: \xc2\x9b{host}\r\n\r\n",
    "another in the target": get(target=b"http://elsewhere.example/"),
    "another in a socket's target": get(
        target=b"http://elsewhere.example/connection/websocket"
    ),
    "a user in the target": get(target=b"http://elsewhere.example@{host}/"),
    "another scheme in the target": get(target=b"ftp://{host}/"),
}

REQUEST_LINES = {
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "GET *": get(target=b"*"),
    "no slash": get(target=b"behind"),
    "HTTP/2.0": get(version=b"HTTP/2.0"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": get(version=b"HTTP/1.2"),
    "HTTP/1.10": get(version=b"HTTP/1.10"),
    "http/1.1": get(version=b"http/1.1"),
    "no version": b"GET /\r\n\r\n",
    "an unknown method": b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method with a sign": b"G=T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in small letters": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

METHODS = {
    "CONNECT": b"CONNECT {host} HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT elsewhere": b"CONNECT elsewhere.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT to nothing": b"CONNECT \r\n\r\n",
    "CONNECT to nothing, with a bare line feed": b"CONNECT \n" + HOST + b"\r\n",
    "CONNECT to a path": b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
}

UPGRADES = {
    "version 777": upgrade(version=b"Sec-WebSocket-Version: 777\r\n"),
    "version 777 on a page": upgrade(path=b"/", version=b"Sec-WebSocket-Version: 777\r\n"),
    "no version": upgrade(version=b""),
    "two versions": upgrade(b"Sec-WebSocket-Version: 8\r\n"),
    "no key": upgrade(key=b""),
    "a short key": upgrade(key=b"Sec-WebSocket-Key: x\r\n"),
    "no Connection": upgrade(wanted=b""),
    "a page": upgrade(path=b"/admin/"),
    "a POST": upgrade(b"Content-Length: 5\r\n", method=b"POST") + b"hello",
    "a body": upgrade(b"Content-Length: 5\r\n") + b"hello",
    "a body in chunks": upgrade(CHUNKED) + b"5\r\nhello\r\n" + EMPTY,
    "a foreign page": upgrade(b"Origin: https://elsewhere.example\r\n"),
}

REFUSED = {
    f"{group}: {name}": request
    for group, requests in {
        "length": LENGTHS,
        "coding": CODINGS,
        "chunk": CHUNK_SIZES,
        "line": LINES,
        "host": HOSTS,
        "request line": REQUEST_LINES,
        "method": METHODS,
        "upgrade": UPGRADES,
    }.items()
    for name, request in requests.items()
}
"""By name; ``{host}`` stands for the server's own."""

TAKEN = {
    "a length": (post(b"Content-Length: 5\r\n", body=b"hello"), 200),
    "no body": (post(b"Content-Length: 0\r\n"), 200),
    "chunks": (chunks(b"5\r\nhello\r\n" + EMPTY), 200),
    "chunks in capitals": (post(b"Transfer-Encoding: CHUNKED\r\n", body=EMPTY), 200),
    "a chunk's extension": (chunks(b"5;a=b\r\nhello\r\n" + EMPTY), 200),
    "harmless trailers": (chunks(b"0\r\nX-Sum: 5\r\n\r\n"), 200),
    "our host in the target": (get(target=b"http://{host}/"), 200),
    "other underscores": (get(b"X_Forwarded_Proto: https\r\n"), 200),
    "no such page": (get(target=b"/nowhere"), 404),
}
"""What is whole: the status, and what stands behind it is answered as well."""
