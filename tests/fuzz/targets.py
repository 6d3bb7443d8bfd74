"""What is fuzzed: each takes bytes, and raises where a promise does not hold."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
from aiohttp import WebSocketError, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.http_websocket import WebSocketReader

from redis_pubsub.auth.authenticator import is_possible
from redis_pubsub.auth.origin import is_origin_allowed, origin_of_page, plain_origin
from redis_pubsub.auth.tickets import is_ticket
from redis_pubsub.auth.tokens import InvalidToken, expiry_of, verify
from redis_pubsub.conf import get_config
from redis_pubsub.contrib.live import emulation
from redis_pubsub.contrib.live.protocol import json as json_form
from redis_pubsub.contrib.live.protocol import protobuf
from redis_pubsub.contrib.live.protocol.forms import WEBSOCKET, websocket_protobuf
from redis_pubsub.contrib.live.protocol.session import Session, State
from redis_pubsub.contrib.live.websocket import _form
from redis_pubsub.contrib.wsgi.environ import EnvironBuilder
from redis_pubsub.contrib.wsgi.handler import check_request
from redis_pubsub.contrib.wsgi.options import WSGIOptions
from redis_pubsub.contrib.wsgi.refusals import Refusal
from redis_pubsub.engine import Control
from redis_pubsub.exceptions import MalformedMessage
from redis_pubsub.frames import cut_reason
from redis_pubsub.messages import CONTROL_CHANNEL
from redis_pubsub.metrics import Metrics
from redis_pubsub.web.connections import _code_of
from redis_pubsub.web.guard import Guard
from redis_pubsub.web.handshake import Gatekeeper
from redis_pubsub.web.incoming import Broken, Incoming
from redis_pubsub.web.pace import Pace
from redis_pubsub.web.redaction import printable
from redis_pubsub.web.requests import fault_of, strict
from redis_pubsub.wire import Envelope

KEY = "a key that nobody who writes corpora has"
_loop = asyncio.new_event_loop()
_envelope, _signed = Envelope(), Envelope(KEY)
logging.getLogger("redis_pubsub").addHandler(logging.NullHandler())


# -- commands ----------------------------------------------------------------------------


def commands_json(data: bytes) -> None:
    """A frame of commands is taken, or the connection is told what it did."""
    _converse(WEBSOCKET, data)


def commands_protobuf(data: bytes) -> None:
    """The same in the binary form."""
    _converse(websocket_protobuf(), data)


def _converse(form, data):
    session = Session(form, 4)
    for state in (State.NEW, State.CONNECTED):
        session.state, session.ending = state, None
        commands = session.receive(data)
        if session.ending is not None:
            assert not commands and session.ending.code == 3501, session.ending
        for command in commands:
            assert command.kind
            if command.subscribe is not None:
                session.begin(command.subscribe)
                # A name that was let in can be told to every client.
                for channel in session.channels:
                    json.loads(json_form.encode(channel))


# -- what comes from Redis ---------------------------------------------------------------


def envelope(data: bytes) -> None:
    """A message that every client can be told, or `MalformedMessage`; with a key none of
    these."""
    try:
        _signed.parse("news", data)
    except MalformedMessage:
        pass
    else:
        raise AssertionError("a forged message was believed")
    try:
        message = _envelope.parse("news", data)
    except MalformedMessage as error:
        assert str(error)
        return
    pushed = json_form.push(message)
    assert b"\n" not in pushed
    assert json.loads(pushed)["push"]["channel"] == "news"
    assert protobuf.push(message)


def control(data: bytes) -> None:
    """A control message is an event whose words a client may see, or nothing."""
    events = []
    heard = Control(Metrics())
    heard.handlers.append(events.append)
    for raw in (b'1:0::{"id":"x"}\n' + data, data):
        try:
            message = _envelope.parse(CONTROL_CHANNEL, raw)
        except MalformedMessage:
            continue
        heard.offer([message])
    for event in events:
        code = _code_of(event)
        assert 3000 <= code.code <= 4999
        assert len(cut_reason(code.reason)) <= 123
        assert not _is_json(code.reason)
        if event.kind == "send":
            json.loads(bytes(event.data))


def _is_json(text):
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def posts(data: bytes) -> None:
    """A post is taken apart, or a 400; no name is good that this site has not signed."""
    try:
        post = emulation._decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    post.data.encode()
    office = emulation.PostOffice.__new__(emulation.PostOffice)
    assert not office.knows_name(post)


# -- who somebody says he is -------------------------------------------------------------


def tokens(data: bytes) -> None:
    """Nobody's token is good without a key, and none of them breaks anything."""
    token = data.decode("utf-8", "surrogateescape")
    try:
        verify(token, [KEY, ""])
    except InvalidToken:
        pass
    else:
        raise AssertionError("a forged token was believed")
    assert isinstance(expiry_of(token), float | int)
    if is_ticket(token):
        assert re.fullmatch(r"ticket_[\w-]{43}", token, re.ASCII)
    if is_possible(token):
        token.encode()


_ours = re.compile(
    r"(http://site\.example(:(0*80)?)?|https://ok\.example(:(0*443)?)?"
    r"|https://[^/?#@\\]+\.sub\.example(:(0*443)?)?)[/?#]?",
    re.IGNORECASE,
)


def origins(data: bytes) -> None:
    """Only ours and listed ones, however they are written."""
    origin = data.decode("utf-8", "surrogateescape")
    plain_origin(origin)
    page = origin_of_page(None, origin, "http://site.example")
    for asked in (origin, page):
        is_allowed = is_origin_allowed(
            asked,
            scheme="http",
            host="site.example",
            hosts=["site.example"],
            origins=["https://ok.example", "https://*.sub.example"],
        )
        assert not is_allowed or _ours.fullmatch(asked), asked


# -- requests ----------------------------------------------------------------------------


class _Reading:
    """What aiohttp's parser wants of a connection."""

    _reading_paused = False

    def pause_reading(self):
        pass

    def resume_reading(self, *args, **kwargs):
        pass


class _Transport:
    def __init__(self, peer):
        self._known = {"peername": (peer, 1234), "sockname": ("127.0.0.1", 80)}

    def get_extra_info(self, name, default=None):
        return self._known.get(name, default)

    def is_closing(self):
        return False


def _gatekeeper():
    engine = SimpleNamespace(config=get_config(), orm=None, metrics=Metrics())
    return Gatekeeper(engine)


def requests(data: bytes) -> None:
    """What aiohttp's parser takes for a request is refused with a code, or is one whose
    environ, credentials and log line are texts that break nothing."""
    parser = HttpRequestParser(
        _Reading(), _loop, 2**16, max_line_size=8190, max_field_size=8190
    )
    try:
        messages, _, _ = parser.feed_data(data)
    except HttpProcessingError:
        return
    gatekeeper = _gatekeeper()
    for message, payload in messages:
        for peer in ("127.0.0.1", "203.0.113.9"):
            protocol = SimpleNamespace(
                transport=_Transport(peer), ssl_context=None, peername=None, sockname=None
            )
            request = _server.request_factory(message, payload, protocol, None, None)
            _look_at(request, gatekeeper)


def _made(message, payload, protocol, writer, task):
    return web.Request(message, payload, protocol, writer, task, _loop)


_server = strict(web.Server(None, request_factory=_made, loop=_loop), lambda: None)
_builder = EnvironBuilder(WSGIOptions())


def _look_at(request, gatekeeper):
    fault = fault_of(request)
    assert fault is None or fault.status in (400, 405, 426)
    line = printable(f"{request.method} {request.raw_path}")
    assert line.isprintable() and line.encode(), line
    if fault is not None:
        return
    try:
        brought = gatekeeper.inspect(request)
    except web.HTTPException as answer:
        assert answer.status in (400, 403) and len(answer.text or "") < 300
    else:
        assert brought.session_key.isprintable() and brought.session_key.isascii()
        _form(request)
    try:
        check_request(request)
        environ = _builder.build(request, None, 0)
    except Refusal as refusal:
        assert refusal.status in (400, 404, 405)
        return
    assert "HTTP_PROXY" not in environ
    assert request.raw_path.startswith("/") or "://" in request.raw_path
    for name, value in environ.items():
        if isinstance(value, str):
            value.encode("latin-1")
            assert "\n" not in value or name in ("PATH_INFO", "SCRIPT_NAME"), name


# -- frames ------------------------------------------------------------------------------


class _Parser:
    def __init__(self):
        self.fed = b""

    def feed_data(self, data):
        self.fed += data
        return False, b""

    def feed_eof(self):
        pass


class _Told:
    def __init__(self):
        self.heard = []

    def flooded(self):
        self.heard.append("flood")

    def broke_protocol(self, error: WebSocketError):
        self.heard.append(error.code)

    def abort(self):
        self.heard.append("abort")


_FREE = Pace(0.0, 0.0, 0.0, 1.0, 0.0, 1.0)
_TIGHT = Pace(1.0, 3.0, 0.001, 0.5, 1.0, 2.0)


def guard(data: bytes) -> None:
    """However frames are cut, the same of them pass; and it is a beginning of what came."""
    step = 1 + (data[0] if data else 0) % 17
    whole, pieces = _passed(data, len(data) or 1, _FREE), _passed(data, step, _FREE)
    assert whole == pieces, (whole, pieces)
    assert data.startswith(whole[0])
    fed, heard = _passed(data, step, _TIGHT)
    assert len(fed) <= len(data)
    assert heard.count("flood") <= 1


def _passed(data, step, pace):
    parser, told = _Parser(), _Told()
    guarding = Guard(parser, told, pace)
    for begin in range(0, len(data), step):
        is_over, _ = guarding.feed_data(data[begin : begin + step])
        if is_over:
            break
    return parser.fed, told.heard[:1]


_LARGEST = 5_000


def frames(data: bytes) -> None:
    """However frames are cut, the messages are the same; and aiohttp reads no others."""
    step = 1 + (data[0] if data else 0) % 17
    said, code = _read(data, len(data) or 1)
    assert (said, code) == _read(data, step), (said, code)
    theirs, their_code = _as_aiohttp_reads(data)
    assert said == theirs[: len(said)], (said, theirs)
    if code is None:
        assert (len(theirs), their_code) == (len(said), None), (theirs, their_code)


def _read(data, step):
    incoming, said = Incoming(_FREE, _LARGEST), []
    try:
        for begin in range(0, len(data), step):
            incoming.feed(data[begin : begin + step])
            while (found := incoming.next()) is not None:
                said.append(found)
    except Broken as error:
        return said, error.code
    return said, None


def _as_aiohttp_reads(data):
    queue = WebSocketDataQueue(_Reading(), 2**20, loop=_loop)
    reader = WebSocketReader(queue, _LARGEST, compress=False, decode_text=False)
    reader.feed_data(data)
    said = []
    for message, _ in queue._buffer:
        payload = message.data
        if message.type is WSMsgType.CLOSE:
            payload = b""
            if message.data:
                payload = message.data.to_bytes(2, "big") + (message.extra or "").encode()
        said.append((int(message.type), bytes(payload)))
    error = queue.exception()
    return said, None if error is None else error.code


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        commands_json,
        commands_protobuf,
        envelope,
        control,
        posts,
        tokens,
        origins,
        requests,
        guard,
        frames,
    )
}
