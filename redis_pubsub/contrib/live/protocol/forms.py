"""A form is how replies travel: a codec, and what a transport puts around its bytes.

There are as many forms as kinds of connection; the hub makes a message's bytes once for
each form that is listening, however many connections.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from ....broker.presence import presence_channel
from ....codes import Code
from ....frames import BINARY, TEXT, Framing, frame
from ....messages import Message
from . import json
from .commands import Command
from .results import Result, SubscribeResult

_COMPANION = presence_channel("")


class Codec(Protocol):
    """What the modules ``json`` and ``protobuf`` offer."""

    SEPARATOR: bytes
    PING: bytes

    def decode(self, data: Any) -> list[Command]: ...
    def reply(self, command_id: int, kind: str, result: Result) -> bytes: ...
    def error(self, command_id: int, code: Code) -> bytes: ...
    def publication(self, message: Message) -> bytes: ...
    def push(self, message: Message) -> bytes: ...
    def presence_push(self, channel: str, kind: str, info: bytes) -> bytes: ...
    def subscribe_push(self, channel: str, result: SubscribeResult) -> bytes: ...
    def message_push(self, raw: bytes) -> bytes: ...
    def unsubscribe_push(self, channel: str, code: Code) -> bytes: ...
    def disconnect_push(self, code: Code) -> bytes: ...


class Form:
    """One way to travel.

    Args:
        name: What logs call it.
        codec: Writes replies.
        wrap: Makes bytes for the wire of one or more replies.
        envelop: Makes bytes for the wire of anything, as a stream begins with.
        opcode: Of a WebSocket: what kind of frames it speaks in.

    Attributes:
        publication: `Framing` of a channel's messages.
        presence: `Framing` of those who come and go.
        ping: What asks a client whether it is there, ready for the wire.
    """

    def __init__(
        self,
        name: str,
        codec: Codec,
        wrap: Callable[[bytes], bytes],
        *,
        envelop: Callable[[bytes], bytes] = bytes,
        opcode: int = 0,
    ) -> None:
        self.name = name
        self.codec = codec
        self.wrap = wrap
        self.envelop = envelop
        self.opcode = opcode
        # Kept, since the hub tells kinds of listeners apart by these very objects.
        self.publication: Framing = self._publication
        self.presence: Framing = self._presence
        self.ping = wrap(codec.PING)

    def join(self, replies: list[bytes]) -> bytes:
        """Several replies as one write."""
        return self.wrap(self.codec.SEPARATOR.join(replies))

    def goodbye(self, code: Code) -> bytes:
        """What a stream ends with."""
        return self.wrap(self.codec.disconnect_push(code))

    def _publication(self, message: Message) -> bytes:
        return self.wrap(self.codec.push(message))

    def _presence(self, message: Message) -> bytes:
        channel = message.channel.removeprefix(_COMPANION)
        push = self.codec.presence_push(channel, message.event, message.raw)
        return self.wrap(push)


def chunk(data: bytes) -> bytes:
    """Bytes as a chunk of a response. Source: RFC 9112, section 7.1."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def _lines(data: bytes) -> bytes:
    return data + b"\n"


def _event(data: bytes) -> bytes:
    lines = data.split(b"\n")
    return b"".join(b"data: %s\n" % line for line in lines) + b"\n"


def _chunked(wrap: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: chunk(wrap(data))


WEBSOCKET = Form("websocket", json, frame, opcode=TEXT)
STREAM = Form("http_stream", json, _chunked(_lines), envelop=chunk)
SSE = Form("sse", json, _chunked(_event), envelop=chunk)
# For proxies that speak HTTP/1.0 to us: the end of the connection ends the stream.
STREAM_UNCHUNKED = Form("http_stream", json, _lines)
SSE_UNCHUNKED = Form("sse", json, _event)


@functools.cache
def websocket_protobuf() -> Form:
    """The binary form.

    Raises:
        ImportError: The package ``protobuf`` is not installed.
    """
    from . import protobuf

    return Form(
        "websocket", protobuf, functools.partial(frame, opcode=BINARY), opcode=BINARY
    )
